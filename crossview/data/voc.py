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
from typing import TYPE_CHECKING

from crossview.data.cache import AnnotationCache, default_cache_dir, merged
from crossview.data.class_filter import ClassFilter, UnknownPolicy
from crossview.data.errors import DataError, Problems, Report
from crossview.data.folders import Layout, OneOrMore, as_tuple, find_sources, find_views
from crossview.data.image_sets import SUFFIX, ListedPair, available_sets, read_image_set
from crossview.data.parsing import file_stamp, parse_views
from crossview.data.policies import DegeneratePolicy, DuplicatePolicy, OutsidePolicy, Policies, YawUnit, annotate
from crossview.data.table import FileKey, FileStamp, Table

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from crossview.data.annotation import ViewAnnotation
    from crossview.data.folders import Source
    from crossview.data.locations import LocationOrder
    from crossview.data.voc_xml import Fault


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
            with one notice, or "raise".
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
        boxes_outside: OutsidePolicy = "clip",
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
            classes=ClassFilter(
                as_tuple(class_names),
                as_tuple(include_classes or ()),
                as_tuple(exclude_classes or ()),
                unknown_class,
            ),
            exclude_truncated=exclude_truncated,
            location_order=location_order,
            yaw_unit=yaw_unit,
            boxes_outside=boxes_outside,
            degenerate_boxes=degenerate_boxes,
            duplicate_ids=duplicate_ids,
        )
        folder = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
        self._cache = AnnotationCache(self._layout.root, folder) if use_cache else None
        self._workers = workers
        self._progress = progress

    @property
    def class_names(self) -> tuple[str, ...]:
        """Foreground classes in the order of their labels 1..C."""
        return self._policies.classes.class_names

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
        table, faults = self._load(keys, report)
        views = annotate(table, faults, self._policies, report)
        report.problems.raise_if_any()
        row = {key: number for number, key in enumerate(table.keys)}
        return PairedAnnotations(pairs, [views[row[key]] for key in keys], report.notices)

    def _find(self, names: Sequence[str], report: Report) -> tuple[list[FileKey], list[tuple[int, int]]]:
        """The distinct views of all sets and the pairs as positions among them."""
        sources = find_sources(self._layout)
        listed = _list_pairs(sources, names, report)
        numbers: dict[FileKey, int] = {}
        pairs: dict[tuple[int, int], None] = {}
        repeated: list[ListedPair] = []
        for source, its_pairs in zip(sources, listed, strict=True):
            views = find_views(source, its_pairs, self._layout.image_suffixes, report.problems)
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

    def _load(self, keys: Sequence[FileKey], report: Report) -> tuple[Table, dict[int, Fault]]:
        """The views from the cache, or parsed where they are not in it or have changed."""
        cached = self._cache.load(report.notices) if self._cache else Table.empty()
        rows = {key: row for row, key in enumerate(cached.keys)}
        old_stamps = cached.views["stamp"].tolist()
        known: list[int] = []
        changed: list[FileKey] = []
        stamps: list[FileStamp] = []
        for key in keys:
            try:
                stamp = file_stamp(key)
            except DataError as error:
                report.problems.add("a file that cannot be read", str(error))
                continue
            row = rows.get(key)
            if row is not None and list(stamp) == old_stamps[row]:
                known.append(row)
            else:
                changed.append(key)
                stamps.append(stamp)
        hits = cached.take(known)
        if not changed:
            return hits, {}
        parsed = parse_views(changed, stamps, report, workers=self._workers, progress=self._progress)
        if self._cache and parsed.sound:
            self._cache.save(merged(cached, parsed.table.take(parsed.sound)), report.notices)
        return hits.join(parsed.table), {len(hits.objects) + item: fault for item, fault in parsed.faults.items()}


def _list_pairs(sources: Sequence[Source], names: Sequence[str], report: Report) -> list[list[ListedPair]]:
    """The pairs of each source.

    Raises:
        DataError: If a set is in no source, or has no pairs.
    """
    if not names:
        raise DataError("no image set was named; give at least one, such as train")
    listed: list[list[ListedPair]] = [[] for _ in sources]
    for name in names:
        files = [source.sets / (name if name.endswith(SUFFIX) else name + SUFFIX) for source in sources]
        there = [file.is_file() for file in files]
        if not any(there):
            known = "; ".join(available_sets(source.sets) for source in sources)
            raise DataError(f"image set {name!r}: {files[0]} does not exist. Available {known}")
        for file, exists, pairs in zip(files, there, listed, strict=True):
            if not exists:
                report.notices.append(f"image set {name!r} is not in {file.parent}: read from the other folders only")
                continue
            before = len(report.problems)
            found = read_image_set(file, report.problems)
            if not found and len(report.problems) == before:
                raise DataError(
                    f"{file}: the image set has no pairs; expected lines of two view names. "
                    f"Available {available_sets(file.parent)}"
                )
            pairs.extend(found)
    return listed
