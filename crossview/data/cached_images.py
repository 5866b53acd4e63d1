"""Images from the file that `crossview.data.image_cache` makes, and what is in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import cv2
import h5py
import numpy as np

from crossview.data.cache import TICK_NS
from crossview.data.errors import DataError
from crossview.data.image_files import check_size
from crossview.data.images import decode_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from crossview.data.annotation import ImageAnnotation
    from crossview.data.augment.raster import Image

Encoding = Literal["jpeg", "arrays"]

ENTRY: Final = np.dtype(
    [("start", np.int64), ("length", np.int64), ("time", np.int64), ("size", np.int64), ("factor", np.int64)]
)
"""A row of the dataset ``index``; ``paths`` has the image's file, ``bytes`` its content."""


class Stamp(NamedTuple):
    """Modification time (ns) and size (bytes) of an image file."""

    time: int
    size: int


class Entry(NamedTuple):
    """One image in the cache."""

    start: int
    length: int
    stamp: Stamp
    factor: int
    is_settled: bool  # whether its file cannot have changed again within the same tick of the clock


class _Opened(NamedTuple):
    """The file as one process has opened it."""

    file: Any
    bytes: Any  # its data set: looking it up takes half as long as reading an image from it
    entries: dict[str, Entry]
    process: int


class CachedImages:
    """Gives the pixels of cached images, see `ImageSource`. Every process opens the file for itself."""

    def __init__(self, path: Path, encoding: Encoding) -> None:
        """Names the file; nothing is opened yet."""
        self._path = path
        self._encoding = encoding
        self._opened: _Opened | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what belongs to this process."""
        return {**self.__dict__, "_opened": None}

    def close(self) -> None:
        """Closes the file if this process has opened it."""
        if self._opened is not None and self._opened.process == os.getpid():
            self._opened.file.close()
        self._opened = None

    def least_reduction(self, annotation: ImageAnnotation) -> int:
        """The factor by which the image is reduced."""
        return self._entry(str(annotation.image)).factor

    def load(self, annotation: ImageAnnotation, reduction: int) -> Image:
        """The pixels (h, w, 3) RGB reduced by a multiple of `least_reduction`.

        Raises:
            DataError: The image's file is gone or has changed since it was taken into the cache.
        """
        entry = self._entry(str(annotation.image))
        if stamp_of(annotation.image) != entry.stamp:
            raise DataError(
                f"{annotation.image}: the image has changed since it was taken into the image cache {self._path}; "
                "start again"
            )
        _, content = self.content(str(annotation.image))
        further = reduction // entry.factor
        if self._encoding == "jpeg":
            image = decode_image(content.tobytes(), annotation.image, further)
        else:
            height, width = annotation.height // entry.factor, annotation.width // entry.factor
            image = content.reshape(height, width, 3)
            if further > 1:
                image = cv2.resize(image, (width // further, height // further), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        check_size(annotation, image, reduction)
        return image

    def content(self, name: str) -> tuple[int, NDArray[np.uint8]]:
        """The factor and the bytes of an image file."""
        entry = self._entry(name)
        return entry.factor, self._open().bytes[entry.start : entry.start + entry.length]

    def _entry(self, name: str) -> Entry:
        try:
            return self._open().entries[name]
        except KeyError:
            raise DataError(f"{name} is not in the image cache {self._path}; start again") from None

    def _open(self) -> _Opened:
        # A handle that was inherited from the parent process shares its position in the file: it is left alone. Index
        # and bytes come from the same handle: another run may have put another file into this place.
        if self._opened is None or self._opened.process != os.getpid():
            file = h5py.File(self._path, "r", locking=False)
            self._opened = _Opened(file, file["bytes"], _index(file), os.getpid())
        return self._opened


def read_index(path: Path, tell: Callable[[str], None]) -> dict[str, Entry]:
    """The images of a cache by path; none if there is no usable cache."""
    if not path.is_file():
        return {}
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _index(file)
    except Exception as error:
        # Damaged files fail in many ways, and none of them may stop a run that only needs to make the cache again.
        tell(f"the image cache {path} cannot be used ({error}): it is made again")
        return {}


def _index(file: Any) -> dict[str, Entry]:  # noqa: ANN401  # h5py has no types
    """The images of an open cache by path.

    Raises:
        ValueError: If it does not fit the bytes.
    """
    rows, paths = file["index"][:].tolist(), file["paths"][:].tolist()
    made, end = int(file.attrs["made"]), file["bytes"].shape[0]
    if any(start + length > end for start, length, *_ in rows):
        raise ValueError("fewer bytes than expected")
    return {
        os.fsdecode(name): Entry(start, length, Stamp(changed, size), factor, abs(changed - made) > TICK_NS)
        for name, (start, length, changed, size, factor) in zip(paths, rows, strict=False)
    }


def stamp_of(image: Path) -> Stamp:
    """Time and size of an image file as they are now.

    Raises:
        DataError: It cannot be looked at.
    """
    try:
        status = image.stat()
    except OSError as error:
        raise DataError(f"{image}: the image cannot be read ({error.strerror or error})") from error
    return Stamp(status.st_mtime_ns, status.st_size)
