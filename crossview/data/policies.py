"""What to make of poses, ids and locations of panoramas, for the whole data set at once; objects: `object_policies`.

Conventions: yaw leaves in radians, locations as latitude, longitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from crossview.data.annotation import ViewAnnotation
from crossview.data.locations import LocationOrder, is_latlng, order_locations
from crossview.data.object_policies import (
    ObjectPolicies,
    apply_policy,
    check_choices,
    notice_sizes,
    split_views,
    usable_objects,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from crossview.data.errors import Report
    from crossview.data.table import Table
    from crossview.data.voc_xml import Fault

YawUnit = Literal["radians", "degrees"]
DuplicatePolicy = Literal["raise", "forget"]

_FAR_M: Final = 1000.0
_TWO_TURNS: Final = {"radians": 4 * np.pi, "degrees": 720.0}


@dataclass(frozen=True, slots=True)
class Policies:
    """What to make of the files; see `PairedVocReader` for the meaning of each field."""

    objects: ObjectPolicies
    location_order: LocationOrder = "auto"
    yaw_unit: YawUnit = "radians"
    duplicate_ids: DuplicatePolicy = "raise"

    def __post_init__(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            DataError: If a value is not one of the names.
        """
        check_choices(self, location_order=LocationOrder, yaw_unit=YawUnit, duplicate_ids=DuplicatePolicy)


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
    notice_sizes(table, report, swapped_is_fine=True)
    usable = usable_objects(table, faults, policies.objects, report)
    has_id = table.objects["has_id"] & _unique(table, usable.kept, policies.duplicate_ids, report)
    locations = _locations(table, usable.kept, policies.location_order, report)
    yaws = np.radians(table.views["yaw"]) if policies.yaw_unit == "degrees" else table.views["yaw"]
    fields = split_views(table, usable, has_id, locations)
    poses = zip(table.views["position"].tolist(), yaws.tolist(), strict=True)
    return [
        ViewAnnotation(**view, position=(position[0], position[1]), yaw=yaw)
        for view, (position, yaw) in zip(fields, poses, strict=True)
    ]


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
    apply_policy(
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
