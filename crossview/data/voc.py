"""Reads paired panoramas with VOC annotations (the Pasadena layout) from disk.

```
ROOT/Images/<view>.jpg
ROOT/VOC/Pasadena/Annotations_Multi/<view>.xml
ROOT/VOC/Pasadena/ImageSets/Main/reid_neu/<set>.txt      a line: <view 1> <view 2>
```
Every view is parsed once, in however many pairs it is, and kept in a cache outside of the data root. Whatever is wrong
in the files is raised together as one `DataError`; nothing is returned or repaired in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from crossview.data.cache import AnnotationCache
from crossview.data.cache_folder import default_cache_dir
from crossview.data.class_filter import ClassFilter, UnknownPolicy
from crossview.data.errors import Problems, Report
from crossview.data.folders import Layout, OneOrMore, as_tuple, find_sources, find_views
from crossview.data.image_sets import PAIR_SETS, ListedPair, read_sets
from crossview.data.loading import Loader
from crossview.data.object_policies import DegeneratePolicy, ObjectPolicies, PanoramaOutsidePolicy
from crossview.data.parsing import read_panorama
from crossview.data.policies import DuplicatePolicy, Policies, YawUnit, annotate
from crossview.memory import no_garbage_collection

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from crossview.data.annotation import ViewAnnotation
    from crossview.data.locations import LocationOrder
    from crossview.data.table import FileKey


@dataclass(frozen=True, slots=True)
class PairedAnnotations:
    """What the reader returns.

    Attributes:
        pairs: The two views of each pair, as positions in `views`, in the order of the image sets.
        views: Every distinct view once, in the order in which the pairs name them first.
        notices: One-line remarks; the caller prints each once.
    """

    pairs: list[tuple[int, int]]
    views: list[ViewAnnotation]
    notices: list[str]


class PairedVocReader:
    """Reads image sets of pairs with their annotations.

    Every folder may be one value or a list. Every image-set folder is a source of pairs. With one of them, views are
    looked for in all image and annotation folders. With several, the n-th image folder and the n-th annotation folder
    belong to the n-th image-set folder, and a single one belongs to all. An image set that is read must be in at least
    one image-set folder.

    Args:
        root: The data root.
        class_names: Foreground classes in the order of their labels 1..C.
        image_dirs: Image folders below the root, or absolute.
        annotation_dirs: Annotation folders below the root.
        image_set_dirs: Image-set folders below the root.
        image_suffixes: Suffixes of images, in any case; the first that exists is taken.
        include_classes: Classes to read; all of `class_names` if none is given.
        exclude_classes: Classes to leave out; they need not be in `class_names`. Labels do not change.
        unknown_class: Objects of any other class are an error ("raise") or left out with a notice ("ignore").
        exclude_truncated: Leave out objects that are marked as truncated.
        location_order: Order of the numbers in <location>; "auto" takes the one that puts objects near to their
            cameras and says so in a notice.
        yaw_unit: Unit of <yaw>.
        boxes_outside: What to do with boxes that reach outside the image: "clip" (wholly outside: drop), "drop", both
            with one notice, or "raise". With "wrap" a box over the left or right side goes on at the other one (xmax
            greater than the width, or xmin negative); what reaches over top and bottom is clipped.
        degenerate_boxes: What to do with boxes with xmin >= xmax or ymin >= ymax in the file.
        duplicate_ids: Whether an id twice in one view is an error, or such objects are taken as having no id
            ("forget", with a notice).
        cache_dir: Where parsed files are kept; by default $CROSSVIEW_CACHE, else $XDG_CACHE_HOME/crossview, else
            ~/.cache/crossview.
        use_cache: Whether to keep and use them.
        workers: Threads that read files. One is quickest on a local disk; more help on a slow network drive.
        progress: Whether to show a progress bar on a terminal.

    Raises:
        DataError: If a setting has no meaning.
    """

    config: ClassVar[str] = "pasadena"
    has_pairs: ClassVar[bool] = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        class_names: Sequence[str],
        *,
        image_dirs: OneOrMore = "Images",
        annotation_dirs: OneOrMore = "VOC/Pasadena/Annotations_Multi",
        image_set_dirs: OneOrMore = "VOC/Pasadena/ImageSets/Main/reid_neu",
        image_suffixes: Sequence[str] = (".jpg", ".jpeg", ".png"),
        include_classes: Sequence[str] | None = None,
        exclude_classes: Sequence[str] | None = None,
        unknown_class: UnknownPolicy = "raise",
        exclude_truncated: bool = False,
        location_order: LocationOrder = "auto",
        yaw_unit: YawUnit = "radians",
        boxes_outside: PanoramaOutsidePolicy = "clip",
        degenerate_boxes: DegeneratePolicy = "raise",
        duplicate_ids: DuplicatePolicy = "raise",
        cache_dir: str | os.PathLike[str] | None = None,
        use_cache: bool = True,
        workers: int = 1,
        progress: bool = True,
    ) -> None:
        self._layout = Layout(
            root=Path(root).expanduser().absolute(),
            image_dirs=as_tuple(image_dirs),
            annotation_dirs=as_tuple(annotation_dirs),
            image_set_dirs=as_tuple(image_set_dirs),
            image_suffixes=as_tuple(image_suffixes),
        )
        self._policies = Policies(
            objects=ObjectPolicies(
                classes=ClassFilter(
                    as_tuple(class_names),
                    as_tuple(include_classes or ()),
                    as_tuple(exclude_classes or ()),
                    unknown_class,
                ),
                exclude_truncated=exclude_truncated,
                boxes_outside=boxes_outside,
                degenerate_boxes=degenerate_boxes,
                panoramas=True,
            ),
            location_order=location_order,
            yaw_unit=yaw_unit,
            duplicate_ids=duplicate_ids,
        )
        folder = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
        cache = AnnotationCache(self._layout.root, folder) if use_cache else None
        self._loader = Loader(cache, workers, progress)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Foreground classes in the order of their labels 1..C."""
        return self._policies.objects.classes.class_names

    @no_garbage_collection()
    def read(self, image_sets: str | Sequence[str]) -> PairedAnnotations:
        """Read one image set or several together.

        Args:
            image_sets: Names of image sets, such as "train" (with or without ".txt").

        Returns:
            The pairs and their views.

        Raises:
            DataError: If anything is missing or wrong; the message has every kind of fault with its first places.
        """
        report = Report(Problems(self._layout.root), [])
        keys, pairs = self._find(as_tuple(image_sets), report)
        report.problems.raise_if_any()
        table, faults = self._loader.load(keys, read_panorama, report)
        views = annotate(table, faults, self._policies, report)
        report.problems.raise_if_any()
        row = {key: number for number, key in enumerate(table.keys)}
        return PairedAnnotations(pairs, [views[row[key]] for key in keys], report.notices)

    def _find(self, names: Sequence[str], report: Report) -> tuple[list[FileKey], list[tuple[int, int]]]:
        """The distinct views of all sets and the pairs as positions among them."""
        sources = find_sources(self._layout)
        listed = read_sets(self._layout.root, [source.sets for source in sources], names, PAIR_SETS, report)
        numbers: dict[FileKey, int] = {}
        pairs: dict[tuple[int, int], None] = {}
        repeated: list[ListedPair] = []
        for source, its_pairs in zip(sources, listed, strict=True):
            views = find_views(source, _places(its_pairs), self._layout.image_suffixes, report.problems)
            for pair in its_pairs:
                if pair.first in views and pair.second in views:
                    first, second = (numbers.setdefault(views[name], len(numbers)) for name in pair[:2])
                    if (first, second) in pairs:
                        repeated.append(pair)
                    pairs[first, second] = None
        if repeated:
            report.notices.append(
                f"{len(repeated)} pairs are listed more than once and read once (first: "
                f"{repeated[0].file}:{repeated[0].line})"
            )
        return list(numbers), list(pairs)


def _places(pairs: Sequence[ListedPair]) -> dict[str, str]:
    """The views of pairs, each with the place that names it first."""
    places: dict[str, str] = {}
    for pair in pairs:
        for name in pair[:2]:
            places.setdefault(name, f"{pair.file}:{pair.line}")
    return places
