"""What the readers of single images share: settings, the split by seed, and the way from files to annotations.

The images are ordinary photos: they have no camera pose, and nothing wraps around at their edges. Whatever is wrong in
the files is raised together as one `DataError`; nothing is returned or repaired in silence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from crossview.data.cache import AnnotationCache
from crossview.data.cache_folder import default_cache_dir
from crossview.data.class_filter import ClassFilter, UnknownPolicy
from crossview.data.errors import DataError, Problems, Report
from crossview.data.folders import OneOrMore, as_tuple
from crossview.data.loading import Loader
from crossview.data.object_policies import (
    DegeneratePolicy,
    FirstPixel,
    ObjectPolicies,
    OutsidePolicy,
    annotate_images,
)
from crossview.data.splitting import PARTS, RandomSplit
from crossview.memory import no_garbage_collection

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from crossview.data.annotation import ImageAnnotation
    from crossview.data.parsing import Read
    from crossview.data.table import FileKey


@dataclass(frozen=True, slots=True)
class ImageAnnotations:
    """What a reader of single images returns.

    Attributes:
        views: Every image once, in the order of the files.
        notices: One-line remarks; the caller prints each once.
    """

    views: list[ImageAnnotation]
    notices: list[str]


@dataclass(frozen=True, slots=True)
class Listing:
    """The images that a reader found.

    Attributes:
        keys: The annotation file and the image file of each.
        read: Reads the annotation of one of them.
        is_whole: Whether these are all images there are, to be split by seed, or already those that were asked for.
    """

    keys: list[FileKey]
    read: Read
    is_whole: bool


class PhotoReader(ABC):
    """Reads annotated photos; subclasses say where they are listed.

    Args:
        root: The data root.
        class_names: Foreground classes in the order of their labels 1..C.
        image_suffixes: Suffixes of images, in any case; the first that exists is taken.
        include_classes: Classes to read; all of `class_names` if none is given.
        exclude_classes: Classes to leave out; they need not be in `class_names`. Labels do not change.
        unknown_class: Objects of any other class are an error ("raise") or left out with a notice ("ignore").
        exclude_truncated: Leave out objects that are marked as truncated.
        boxes_outside: What to do with boxes that reach outside the image: "clip" (wholly outside: drop), "drop", both
            with one notice, or "raise".
        degenerate_boxes: What to do with boxes with xmin >= xmax or ymin >= ymax in the file.
        first_pixel: The number of the first pixel in the files: 1 with inclusive corners as in VOC, 0 with half-open
            boxes.
        split: Shares and seed of the parts train, val and test where the images have no sets: see `RandomSplit`.
        cache_dir: Where parsed files are kept; by default $CROSSVIEW_CACHE, else $XDG_CACHE_HOME/crossview, else
            ~/.cache/crossview.
        use_cache: Whether to keep and use them.
        workers: Threads that read files. One is quickest on a local disk; more help on a slow network drive.
        progress: Whether to show a progress bar on a terminal.

    Attributes:
        config: The choice of the config group `data` that uses the reader.

    Raises:
        DataError: If a setting has no meaning.
    """

    config: ClassVar[str]
    has_pairs: ClassVar[bool] = False
    names_classes_by_number: ClassVar[bool] = False

    def __init__(
        self,
        root: str | os.PathLike[str],
        class_names: Sequence[str],
        *,
        image_suffixes: Sequence[str] = (".jpg", ".jpeg", ".png"),
        include_classes: Sequence[str] | None = None,
        exclude_classes: Sequence[str] | None = None,
        unknown_class: UnknownPolicy = "raise",
        exclude_truncated: bool = False,
        boxes_outside: OutsidePolicy = "clip",
        degenerate_boxes: DegeneratePolicy = "raise",
        first_pixel: FirstPixel = 1,
        split: Mapping[str, float] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        use_cache: bool = True,
        workers: int = 1,
        progress: bool = True,
    ) -> None:
        self.root = Path(root).expanduser().absolute()
        self.image_suffixes = as_tuple(image_suffixes)
        self._policies = ObjectPolicies(
            classes=ClassFilter(
                as_tuple(class_names),
                as_tuple(include_classes or ()),
                as_tuple(exclude_classes or ()),
                unknown_class,
                self.names_classes_by_number,
            ),
            exclude_truncated=exclude_truncated,
            boxes_outside=boxes_outside,
            degenerate_boxes=degenerate_boxes,
            first_pixel=first_pixel,
        )
        self._split = RandomSplit.of(split or {})
        folder = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
        cache = AnnotationCache(self.root, folder, self._cache_kind()) if use_cache else None
        self._loader = Loader(cache, workers, progress)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Foreground classes in the order of their labels 1..C."""
        return self._policies.classes.class_names

    @no_garbage_collection()
    def read(self, image_sets: OneOrMore) -> ImageAnnotations:
        """Read one image set or several together.

        Args:
            image_sets: Names of image sets; where there are none: parts of the split, train, val or test.

        Returns:
            The images.

        Raises:
            DataError: If anything is missing or wrong; the message has every kind of fault with its first places.
        """
        report = Report(Problems(self.root), [])
        names = as_tuple(image_sets)
        listing = self._list(names, report)
        report.problems.raise_if_any()
        keys = self._parts(listing.keys, names, report) if listing.is_whole else listing.keys
        table, faults = self._loader.load(keys, listing.read, report)
        views = annotate_images(table, faults, self._policies, report)
        report.problems.raise_if_any()
        row = {key: number for number, key in enumerate(table.keys)}
        return ImageAnnotations([views[row[key]] for key in keys], report.notices)

    @abstractmethod
    def _list(self, names: Sequence[str], report: Report) -> Listing:
        """Find the images of sets, or all images if there are no sets."""

    def _cache_kind(self) -> str:
        """Names the cache of parsed files; readers that parse differently have different ones."""
        return f"{self.config}-photos"

    def _parts(self, keys: Sequence[FileKey], names: Sequence[str], report: Report) -> list[FileKey]:
        """The images in parts of the split.

        Raises:
            DataError: If there is no such part, or no image in it.
        """
        if others := [name for name in names if name not in PARTS]:
            raise DataError(
                f"image set {', '.join(others)}: the images under {self.root} have no sets and are split by name and "
                f"seed into {', '.join(PARTS)}; name these, or say where the sets are"
            )
        parts = [self._split.part(Path(image).stem) for _, image in keys]
        counts = Counter(parts)
        report.notices.append(
            f"the images under {self.root} have no sets and are split by name and seed {self._split.seed}: "
            + ", ".join(f"{counts[part]} {part}" for part in PARTS)
        )
        if not any(counts[name] for name in names):
            raise DataError(
                f"the split leaves no image for {', '.join(names)}: {len(keys)} images under {self.root}, shares "
                f"val {self._split.val} and test {self._split.test}; use larger shares, another seed or more images"
            )
        return [key for key, part in zip(keys, parts, strict=True) if part in names]
