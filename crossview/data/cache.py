"""A cache of parsed annotation files, so that a second start only looks at file times.

One file a data root, outside of it. It holds what the files say (see `table.py`), so it does not depend on settings.
A view is parsed again when the modification time or the size of its annotation or its image has changed. A cache that
cannot be read is made anew, one that cannot be written is done without; both are said in a notice.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from crossview.data.table import OBJECT, VIEW, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION: Final = 1
"""Counts changes of the format or of the parser: older caches are not looked at."""

TICK_NS: Final = 50_000_000
"""A file can change twice within one tick of the file system's clock (up to 10 ms) and keep its time and size, so what
was changed just before it was read is not kept."""


class AnnotationCache:
    """The cache of one data root and one way of reading it."""

    def __init__(self, root: Path, folder: Path, kind: str = "voc") -> None:
        """Name the cache; nothing is read yet.

        Args:
            root: The data root.
            folder: Where caches are kept.
            kind: Who reads: what one reader does not look at another one may need.
        """
        digest = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
        self.path = folder / f"{kind}-v{VERSION}-{digest}.npz"

    def load(self, notices: list[str]) -> Table:
        """The cached views; none if there is no usable cache.

        Args:
            notices: Takes a line if the cache is there and cannot be used.
        """
        try:
            # Opened here, because np.load leaves a file open that is no archive.
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return _checked(stored["texts"], stored["views"], stored["objects"])
        except FileNotFoundError:
            return Table.empty()
        except Exception as error:
            # Damaged archives fail in a dozen ways, and no way of them may stop a run that only needs to parse again.
            notices.append(f"the annotation cache {self.path} cannot be used ({error}): annotations are parsed again")
            return Table.empty()

    def save(self, table: Table, read_from: int, notices: list[str]) -> None:
        """Replace the cache at once, so that nobody ever sees half of it.

        Args:
            table: What to keep.
            read_from: When reading its files began, nanoseconds since the epoch.
            notices: Takes a line if the cache cannot be written.
        """
        newest = table.views["stamp"][:, (0, 2)].max(axis=1)
        within = (newest >= read_from - TICK_NS) & (newest <= time.time_ns() + TICK_NS)
        settled = table.take(np.flatnonzero(~within).tolist())
        texts = np.frombuffer(json.dumps({"keys": settled.keys, "names": settled.names}).encode(), np.uint8)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_name(f".{self.path.stem}-{uuid.uuid4().hex}.part")
            try:
                with part.open("xb") as file:
                    np.savez(file, texts=texts, views=settled.views, objects=settled.objects)
                part.replace(self.path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            notices.append(
                f"the annotation cache {self.path} cannot be written ({error.strerror or error}): "
                "annotations will be parsed again at the next start; set cache_dir to a writable folder"
            )


def merged(old: Table, fresh: Table) -> Table:
    """The cache after a read: fresh views replace old ones, and views whose files are gone are left out."""
    replaced = set(fresh.keys)
    kept = [row for row, key in enumerate(old.keys) if key not in replaced and os.path.exists(key[0])]  # noqa: PTH110
    return old.take(kept).join(fresh)


def _checked(texts: NDArray[np.uint8], views: NDArray[np.void], objects: NDArray[np.void]) -> Table:
    """A table whose parts fit each other.

    Raises:
        ValueError: If they do not.
    """
    content = json.loads(texts.tobytes())
    keys = [(str(annotation), str(image)) for annotation, image in content["keys"]]
    names = [str(name) for name in content["names"]]
    if views.dtype != VIEW or objects.dtype != OBJECT:
        raise ValueError("other columns than expected")
    counts = views["objects"]
    if len(keys) != len(views) or (counts < 0).any() or counts.sum() != len(objects):
        raise ValueError("other numbers of views and objects than expected")
    if len(objects) and (objects["name"].min() < 0 or objects["name"].max() >= len(names)):
        raise ValueError("a class that is not in its vocabulary")
    return Table(keys, views, objects, names)
