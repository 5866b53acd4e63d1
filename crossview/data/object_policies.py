"""From the objects that files name to the ones that are used: classes and boxes, for the whole data set at once.

Conventions: boxes come as in the files, with 1-based inclusive pixels (VOC) or 0-based half-open ones (`first_pixel`),
and leave 0-based and half-open; this is the only place that knows of the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

import numpy as np

from crossview.data.annotation import ImageAnnotation
from crossview.data.errors import DataError, Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from crossview.data.class_filter import ClassFilter
    from crossview.data.table import Table
    from crossview.data.voc_xml import Fault

OutsidePolicy = Literal["raise", "clip", "drop"]
PanoramaOutsidePolicy = Literal["raise", "clip", "drop", "wrap"]
DegeneratePolicy = Literal["raise", "drop"]
FirstPixel = Literal[0, 1]

_TO_HALF_OPEN: Final = {0: np.zeros(4), 1: np.array([-1.0, -1.0, 0.0, 0.0])}


@dataclass(frozen=True, slots=True)
class ObjectPolicies:
    """What to make of the objects; see the readers for the meaning of each field.

    Attributes:
        boxes_outside: "wrap" for panoramas only: a box that reaches over one side goes on at the other.
        first_pixel: The number that files give to the first pixel: 1 with inclusive corners as in VOC, 0 with half-open
            boxes.
        panoramas: Whether the images are panoramas.
    """

    classes: ClassFilter
    exclude_truncated: bool = False
    boxes_outside: PanoramaOutsidePolicy = "clip"
    degenerate_boxes: DegeneratePolicy = "raise"
    first_pixel: FirstPixel = 1
    panoramas: bool = False

    def __post_init__(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            DataError: If a value is not one of the names.
        """
        outside = PanoramaOutsidePolicy if self.panoramas else OutsidePolicy
        check_choices(self, boxes_outside=outside, degenerate_boxes=DegeneratePolicy, first_pixel=FirstPixel)


def check_choices(settings: object, **choices: object) -> None:
    """Refuse a field of ``settings`` that is not one of its literals.

    Raises:
        DataError: If there is one.
    """
    for key, literals in choices.items():
        value = getattr(settings, key)
        if value not in get_args(literals):
            raise DataError(f"{key} is {value!r}; expected one of {', '.join(map(str, get_args(literals)))}")


class Usable(NamedTuple):
    """What the policies made of all objects of a table.

    Attributes:
        kept: Which objects are used.
        boxes: (all objects, 4) 0-based and half-open, within the image where `kept`; with "wrap" xmax may be beyond W.
        labels: (all objects,) 1..C where `kept`.
    """

    kept: NDArray[np.bool_]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]


def usable_objects(table: Table, faults: Mapping[int, Fault], policies: ObjectPolicies, report: Report) -> Usable:
    """Apply the policies for classes and boxes.

    Args:
        table: What the files say.
        faults: What is wrong with single objects, by their number in the table; only reported for objects that the
            filters keep.
        policies: The settings.
        report: Takes errors and remarks.
    """
    labels = policies.classes.labels(table, report)
    kept = labels > 0
    if policies.exclude_truncated:
        kept &= ~table.objects["truncated"]
    if len(kept) and not kept.any():
        report.notices.append(f"the settings leave out all {len(kept)} objects; check include_classes, exclude_classes")
    for item, fault in faults.items():
        if kept[item]:
            report.problems.add(fault.kind, f"{table.position(item, fault.line)}: {fault.found}")
    boxes = table.objects["box"] + _TO_HALF_OPEN[policies.first_pixel]
    kept &= _proper(table, kept, policies.degenerate_boxes, report)
    kept &= _inside(table, boxes, kept, policies, report)
    return Usable(kept, boxes, labels)


def annotate_images(
    table: Table, faults: Mapping[int, Fault], policies: ObjectPolicies, report: Report
) -> list[ImageAnnotation]:
    """Apply the policies to photos; arguments as for `usable_objects`.

    Returns:
        One annotation for each view, usable if `report.problems` is empty.
    """
    notice_sizes(table, report)
    usable = usable_objects(table, faults, policies, report)
    has_id = np.zeros(len(usable.kept), np.bool_)
    locations = np.full((len(usable.kept), 2), np.nan)
    return [ImageAnnotation(**fields) for fields in split_views(table, usable, has_id, locations)]


def notice_sizes(table: Table, report: Report, *, swapped_is_fine: bool = False) -> None:
    """Remark on annotations made on another size of image: their boxes would be at the wrong places.

    Args:
        table: The views.
        report: Takes the remark.
        swapped_is_fine: Whether width and height may be in each other's place, as some annotation tools write them. Of
            a photo it rather means that boxes were drawn on the picture as its EXIF orientation turns it.
    """
    size, stated = table.views["size"], table.views["stated_size"]
    differs = (stated > 0).all(axis=1) & (stated != size).any(axis=1)
    if swapped_is_fine:
        differs &= (stated != size[:, ::-1]).any(axis=1)
    rows = np.flatnonzero(differs)
    if len(rows):
        first = rows[0]
        detail = ", not only swapped" if swapped_is_fine else ""
        report.notices.append(
            f"{len(rows)} annotation(s) state another image size than the image has{detail} (first: "
            f"{table.keys[first][0]}: {stated[first][0]}x{stated[first][1]}, image {size[first][0]}x{size[first][1]}); "
            "boxes are taken as pixels of the image"
            + ("" if swapped_is_fine else " as it is stored, without the turn that an EXIF orientation asks for")
        )


def _proper(table: Table, kept: NDArray[np.bool_], policy: DegeneratePolicy, report: Report) -> NDArray[np.bool_]:
    """Where xmin < xmax and ymin < ymax."""
    box = table.objects["box"]
    # Comparisons with the NaN of an object without a box are False: it is reported as such already.
    degenerate = kept & (box[:, :2] >= box[:, 2:]).any(axis=1)
    kind = (
        "a box without area: expected xmin < xmax and ymin < ymax; correct the annotation or set degenerate_boxes=drop"
    )
    apply_policy(table, degenerate, policy, kind, "boxes without area were dropped (degenerate_boxes=drop)", report)
    return ~degenerate


def _inside(
    table: Table, boxes: NDArray[np.float64], kept: NDArray[np.bool_], policies: ObjectPolicies, report: Report
) -> NDArray[np.bool_]:
    """Where a box may stay; clips the boxes in place if that is the policy."""
    limits = np.tile(table.views["size"], 2)[table.owners].astype(np.float64)  # (objects, 4): W, H, W, H
    if policies.boxes_outside == "wrap":
        _wrap(table, boxes, limits, kept, report)
    outside = kept & ((boxes < 0) | (boxes > limits)).any(axis=1)
    least = policies.first_pixel
    kind = (
        f"a box outside the image: expected {least} <= xmin < xmax <= width and {least} <= ymin < ymax <= height; "
        "correct the annotation or set boxes_outside=clip or drop"
    )
    if policies.boxes_outside in ("raise", "drop"):
        remark = "boxes outside their image were dropped (boxes_outside=drop)"
        apply_policy(table, outside, policies.boxes_outside, kind, remark, report)
        return ~outside
    boxes[outside] = np.clip(boxes[outside], 0, limits[outside])
    gone = outside & (boxes[:, :2] >= boxes[:, 2:]).any(axis=1)
    if outside.any():
        report.notices.append(
            f"{outside.sum()} boxes reach outside their image (first: {table.place(np.flatnonzero(outside)[0])}): "
            f"{outside.sum() - gone.sum()} were clipped, {gone.sum()} wholly outside were dropped "
            f"(boxes_outside={policies.boxes_outside})"
        )
    return ~gone


def _wrap(
    table: Table, boxes: NDArray[np.float64], limits: NDArray[np.float64], kept: NDArray[np.bool_], report: Report
) -> None:
    """Gives boxes over the left or right side of a panorama the form 0 <= xmin < W < xmax, and lets that be inside."""
    left, right, width = boxes[:, 0], boxes[:, 2], limits[:, 0].copy()
    crosses = kept & (right - left <= width) & (((left < 0) & (right > 0)) | ((left < width) & (right > width)))
    boxes[crosses & (left < 0), 0::2] += width[crosses & (left < 0), None]
    limits[crosses, 2] = 2 * width[crosses]
    if crosses.any():
        report.notices.append(
            f"{crosses.sum()} boxes reach over a side of their panorama and go on at the other one (first: "
            f"{table.place(np.flatnonzero(crosses)[0])}, boxes_outside=wrap)"
        )


def apply_policy(table: Table, found: NDArray[np.bool_], policy: str, kind: str, remark: str, report: Report) -> None:
    """Report objects one by one as errors (policy "raise") or together in one remark (any other policy)."""
    items = np.flatnonzero(found).tolist()
    if policy == "raise":
        for item in items:
            report.problems.add(kind, f"{table.place(item)}: {table.describe(item)}")
    elif items:
        report.notices.append(f"{len(items)} {remark} (first: {table.place(items[0])}: {table.describe(items[0])})")


def split_views(
    table: Table, usable: Usable, has_id: NDArray[np.bool_], locations: NDArray[np.float64]
) -> Iterator[dict[str, Any]]:
    """The fields of an `ImageAnnotation` of each view.

    Args:
        table: The views.
        usable: Their objects.
        has_id: (all objects,) which ids are meant.
        locations: (all objects, 2) latitude, longitude.
    """
    kept = usable.kept
    objects = table.objects[kept]
    columns = {name: np.ascontiguousarray(objects[name]) for name in ("difficult", "truncated", "has_location")}
    columns |= {"ids": np.ascontiguousarray(objects["id"]), "has_id": has_id[kept], "locations": locations[kept]}
    columns |= {"boxes": usable.boxes[kept], "labels": usable.labels[kept]}
    ends = np.searchsorted(table.owners[kept], np.arange(len(table.keys) + 1)).tolist()
    sizes = table.views["size"].tolist()
    for (source, image), (width, height), start, end in zip(table.keys, sizes, ends[:-1], ends[1:], strict=True):
        part = slice(start, end)
        fields = {name: column[part] for name, column in columns.items()}
        yield fields | {
            "view": Path(image).stem,
            "image": Path(image),
            "source": Path(source),
            "width": width,
            "height": height,
        }
