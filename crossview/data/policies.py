"""From what the files say to annotations: classes, boxes, ids, locations and yaw, for the whole data set at once.

Conventions: boxes come in VOC's 1-based inclusive pixels and leave 0-based and half-open; this is the only place that
knows of the difference. Yaw leaves in radians, locations as latitude, longitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

import numpy as np

from crossview.data.annotation import ViewAnnotation
from crossview.data.class_filter import ClassFilter
from crossview.data.errors import DataError, Report
from crossview.data.locations import LocationOrder, is_latlng, order_locations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from crossview.data.table import Table
    from crossview.data.voc_xml import Fault

YawUnit = Literal["radians", "degrees"]
OutsidePolicy = Literal["raise", "clip", "drop"]
DegeneratePolicy = Literal["raise", "drop"]
DuplicatePolicy = Literal["raise", "forget"]

_FAR_M: Final = 1000.0
_TWO_TURNS: Final = {"radians": 4 * np.pi, "degrees": 720.0}
_VOC_TO_HALF_OPEN: Final = np.array([-1.0, -1.0, 0.0, 0.0])


@dataclass(frozen=True, slots=True)
class Policies:
    """What to make of the files; see `PairedVocReader` for the meaning of each field."""

    classes: ClassFilter
    exclude_truncated: bool = False
    location_order: LocationOrder = "auto"
    yaw_unit: YawUnit = "radians"
    boxes_outside: OutsidePolicy = "clip"
    degenerate_boxes: DegeneratePolicy = "raise"
    duplicate_ids: DuplicatePolicy = "raise"

    def __post_init__(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            DataError: If a value is not one of the names.
        """
        choices = {
            "location_order": LocationOrder,
            "yaw_unit": YawUnit,
            "boxes_outside": OutsidePolicy,
            "degenerate_boxes": DegeneratePolicy,
            "duplicate_ids": DuplicatePolicy,
        }
        for key, names in choices.items():
            value = getattr(self, key)
            if value not in get_args(names):
                raise DataError(f"{key} is {value!r}; expected one of {', '.join(get_args(names))}")


class _Columns(NamedTuple):
    """What the policies made of the kept objects, in their order."""

    boxes: NDArray[np.float64]
    locations: NDArray[np.float64]
    labels: NDArray[np.int64]
    has_id: NDArray[np.bool_]


def annotate(table: Table, faults: Mapping[int, Fault], policies: Policies, report: Report) -> list[ViewAnnotation]:
    """Apply the policies to all views.

    Args:
        table: What the files say.
        faults: What is wrong with single objects, by their number in the table; only reported for objects that the
            filters keep.
        policies: The settings.
        report: Takes errors and remarks.

    Returns:
        One annotation for each view, usable if `report.problems` is empty.
    """
    _check_cameras(table, policies.yaw_unit, report)
    _notice_sizes(table, report)
    labels = policies.classes.labels(table, report)
    kept = labels > 0
    if policies.exclude_truncated:
        kept &= ~table.objects["truncated"]
    if len(kept) and not kept.any():
        report.notices.append(f"the settings leave out all {len(kept)} objects; check include_classes, exclude_classes")
    for item, fault in faults.items():
        if kept[item]:
            report.problems.add(fault.kind, f"{table.source(item)}:{fault.line}: {fault.found}")
    boxes = table.objects["box"] + _VOC_TO_HALF_OPEN
    kept &= _proper(table, kept, policies.degenerate_boxes, report)
    kept &= _inside(table, boxes, kept, policies.boxes_outside, report)
    has_id = table.objects["has_id"] & _unique(table, kept, policies.duplicate_ids, report)
    locations = _locations(table, kept, policies.location_order, report)
    yaws = np.radians(table.views["yaw"]) if policies.yaw_unit == "degrees" else table.views["yaw"]
    columns = _Columns(boxes[kept], locations[kept], labels[kept], has_id[kept])
    return _split(table, kept, yaws, columns)


def _check_cameras(table: Table, unit: YawUnit, report: Report) -> None:
    """Camera positions must be on Earth and yaws must not be in another unit."""
    kind = (
        "a camera position that is not on Earth: expected <panocoords>latitude,longitude</panocoords>, -90..90 and "
        "-180..180 degrees"
    )
    for row in np.flatnonzero(~is_latlng(table.views["position"])):
        latitude, longitude = table.views["position"][row].tolist()
        report.problems.add(kind, f"{table.keys[row][0]}: latitude {latitude}, longitude {longitude}")
    yaws = table.views["yaw"]
    advice = "set yaw_unit=degrees if the files have degrees" if unit == "radians" else "correct the files"
    kind = f"a yaw beyond two turns for yaw_unit={unit}: expected at most {_TWO_TURNS[unit]:.4g}; {advice}"
    for row in np.flatnonzero(np.abs(yaws) > _TWO_TURNS[unit]):
        report.problems.add(kind, f"{table.keys[row][0]}: yaw {yaws[row]}")
    if unit == "degrees" and len(yaws) >= 10 and np.abs(yaws).max() <= 2 * np.pi:
        report.notices.append(
            f"all {len(yaws)} yaws are within 6.28 although yaw_unit=degrees; set yaw_unit=radians if they are radians"
        )


def _notice_sizes(table: Table, report: Report) -> None:
    """Remark on annotations made on another size of image: their boxes would be at the wrong places."""
    size, stated = table.views["size"], table.views["stated_size"]
    differs = (stated > 0).all(axis=1) & (stated != size).any(axis=1) & (stated != size[:, ::-1]).any(axis=1)
    rows = np.flatnonzero(differs)
    if len(rows):
        first = rows[0]
        report.notices.append(
            f"{len(rows)} annotation(s) state another image size than the image has, not only swapped (first: "
            f"{table.keys[first][0]}: {stated[first][0]}x{stated[first][1]}, image {size[first][0]}x{size[first][1]}); "
            "boxes are taken as pixels of the image"
        )


def _proper(table: Table, kept: NDArray[np.bool_], policy: DegeneratePolicy, report: Report) -> NDArray[np.bool_]:
    """Where xmin < xmax and ymin < ymax."""
    box = table.objects["box"]
    # Comparisons with the NaN of an object without a box are False: it is reported as such already.
    degenerate = kept & (box[:, :2] >= box[:, 2:]).any(axis=1)
    kind = (
        "a box without area: expected xmin < xmax and ymin < ymax; correct the annotation or set degenerate_boxes=drop"
    )
    _apply(table, degenerate, policy, kind, "boxes without area were dropped (degenerate_boxes=drop)", report)
    return ~degenerate


def _inside(
    table: Table, boxes: NDArray[np.float64], kept: NDArray[np.bool_], policy: OutsidePolicy, report: Report
) -> NDArray[np.bool_]:
    """Where a box may stay; clips the boxes in place if that is the policy."""
    limits = np.tile(table.views["size"], 2)[table.owners]  # (objects, 4): W, H, W, H
    outside = kept & ((boxes < 0) | (boxes > limits)).any(axis=1)
    kind = (
        "a box outside the image: expected 1 <= xmin < xmax <= width and 1 <= ymin < ymax <= height; correct the "
        "annotation or set boxes_outside=clip or drop"
    )
    if policy != "clip":
        _apply(table, outside, policy, kind, "boxes outside their image were dropped (boxes_outside=drop)", report)
        return ~outside
    boxes[outside] = np.clip(boxes[outside], 0, limits[outside])
    gone = outside & (boxes[:, :2] >= boxes[:, 2:]).any(axis=1)
    if outside.any():
        report.notices.append(
            f"{outside.sum()} boxes reach outside their image (first: {table.place(np.flatnonzero(outside)[0])}): "
            f"{outside.sum() - gone.sum()} were clipped, {gone.sum()} wholly outside were dropped (boxes_outside=clip)"
        )
    return ~gone


def _unique(table: Table, kept: NDArray[np.bool_], policy: DuplicatePolicy, report: Report) -> NDArray[np.bool_]:
    """Where no other kept object of the view has the same id."""
    unique = np.ones(len(kept), np.bool_)
    items = np.flatnonzero(kept & table.objects["has_id"])
    if not len(items):
        return unique
    named = np.stack((table.owners[items], table.objects["id"][items]), axis=1)
    _, group, count = np.unique(named, axis=0, return_inverse=True, return_counts=True)
    repeated = items[count[group] > 1]
    unique[repeated] = False
    kind = (
        "an id twice in one view: expected one box for each object; correct the ids, or set duplicate_ids=forget to "
        "take such boxes as objects without id"
    )
    _apply(
        table, ~unique, policy, kind, "objects lost an id that is twice in their view (duplicate_ids=forget)", report
    )
    return unique


def _locations(table: Table, kept: NDArray[np.bool_], order: LocationOrder, report: Report) -> NDArray[np.float64]:
    """(all objects, 2) latitude, longitude; NaN where the files give none."""
    locations = np.full((len(kept), 2), np.nan)
    items = np.flatnonzero(kept & table.objects["has_location"])
    written = table.objects["location"][items]
    found = order_locations(written, table.views["position"][table.owners[items]], order)
    if found.notice:
        report.notices.append(found.notice)
    kind = (
        f"a location that is not on Earth with location_order={order}: expected latitude -90..90 and longitude "
        "-180..180; correct the annotation or location_order"
    )
    for item, numbers in zip(items[np.isinf(found.distance)], written[np.isinf(found.distance)], strict=True):
        report.problems.add(kind, f"{table.place(item)}: found {numbers[0]},{numbers[1]}")
    far = np.isfinite(found.distance) & (found.distance > _FAR_M)
    if far.any():
        first = items[far][0]
        report.notices.append(
            f"{far.sum()} location(s) are more than {_FAR_M:.0f} m from the camera that saw the object "
            f"(first: {table.place(first)}, {found.distance[far][0] / 1000:.1f} km); check "
            "location_order and the files"
        )
    locations[items] = found.latlng
    return locations


def _apply(table: Table, found: NDArray[np.bool_], policy: str, kind: str, remark: str, report: Report) -> None:
    """Report objects one by one as errors (policy "raise") or together in one remark (any other policy)."""
    items = np.flatnonzero(found).tolist()
    if policy == "raise":
        for item in items:
            report.problems.add(kind, f"{table.place(item)}: {table.describe(item)}")
    elif items:
        report.notices.append(f"{len(items)} {remark} (first: {table.place(items[0])}: {table.describe(items[0])})")


def _split(
    table: Table,
    kept: NDArray[np.bool_],
    yaws: NDArray[np.float64],
    columns: _Columns,
) -> list[ViewAnnotation]:
    """Cut the columns of the kept objects into views."""
    objects = table.objects[kept]
    fields = {name: np.ascontiguousarray(objects[name]) for name in ("id", "difficult", "truncated", "has_location")}
    ends = np.searchsorted(table.owners[kept], np.arange(len(table.keys) + 1)).tolist()
    sizes, positions = table.views["size"].tolist(), table.views["position"].tolist()
    views = []
    for row, (source, image) in enumerate(table.keys):
        part = slice(ends[row], ends[row + 1])
        file = Path(source)
        views.append(
            ViewAnnotation(
                view=file.stem,
                image=Path(image),
                source=file,
                width=sizes[row][0],
                height=sizes[row][1],
                boxes=columns.boxes[part],
                labels=columns.labels[part],
                ids=fields["id"][part],
                has_id=columns.has_id[part],
                difficult=fields["difficult"][part],
                truncated=fields["truncated"][part],
                locations=columns.locations[part],
                has_location=fields["has_location"][part],
                position=(positions[row][0], positions[row][1]),
                yaw=float(yaws[row]),
            )
        )
    return views
