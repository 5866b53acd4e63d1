import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from crossview.data.batch import Objects
from crossview.detector.detections import ViewDetections
from crossview.dual.placed import PlacedDetections
from crossview.metrics.cross_view import CrossViewMetrics

# Places in view 1 and in view 2, all far from each other.
A1, B1 = [0.0, 100.0, 20.0, 150.0], [100.0, 100.0, 120.0, 150.0]
A2, B2 = [300.0, 100.0, 330.0, 160.0], [400.0, 100.0, 430.0, 160.0]
NOWHERE = [500.0, 100.0, 520.0, 150.0]

Object = (
    tuple[int | None, list[float]] | tuple[int | None, list[float], bool] | tuple[int | None, list[float], bool, int]
)
Found = tuple[list[float], float, list[float] | None] | tuple[list[float], float, list[float] | None, Mapping[str, Any]]


def annotated(*views: list[Object]) -> Objects:
    """Two views a pair with rows of identity, box, difficult (False), class (1); shape (pairs, 2, G)."""
    size = max(len(rows) for rows in views) + 1
    boxes = torch.zeros(len(views), size, 4)
    labels, ids = torch.zeros(2, len(views), size, dtype=torch.int64)
    has_id, difficult, present = torch.zeros(3, len(views), size, dtype=torch.bool)
    for view, rows in enumerate(views):
        for row, (identity, box, *rest) in enumerate(rows):
            boxes[view, row], labels[view, row] = torch.tensor(box), rest[1] if len(rest) > 1 else 1
            ids[view, row], has_id[view, row] = identity or 0, identity is not None
            difficult[view, row], present[view, row] = bool(rest and rest[0]), True
    location, has_location = torch.zeros(len(views), size, 2), torch.zeros_like(present)
    fields = (boxes, labels, ids, has_id, difficult, present, location, has_location)
    return Objects(*(field.unflatten(0, (-1, 2)) for field in fields))


def detected(*views: list[Found]) -> tuple[ViewDetections, PlacedDetections]:
    """Two views a pair with rows of box, score, place in the other view (None: no valid place).

    A fourth entry changes ``label`` (1), ``covisibility`` (1) or ``geometry`` (the place of geometry alone, the same).
    """
    size = max(len(rows) for rows in views) + 1
    boxes, places, geometry = torch.zeros(3, len(views), size, 4)
    scores, covisibility = torch.zeros(2, len(views), size)
    labels = torch.zeros(len(views), size, dtype=torch.int64)
    present, valid, geometry_valid = torch.zeros(3, len(views), size, dtype=torch.bool)
    for view, rows in enumerate(views):
        for row, (box, score, place, *rest) in enumerate(rows):
            other: dict[str, Any] = {"label": 1, "covisibility": 1.0, "geometry": place, **(rest[0] if rest else {})}
            boxes[view, row], scores[view, row] = torch.tensor(box), score
            labels[view, row], covisibility[view, row], present[view, row] = other["label"], other["covisibility"], True
            for target, target_valid, value in ((places, valid, place), (geometry, geometry_valid, other["geometry"])):
                target_valid[view, row] = value is not None
                target[view, row] = torch.tensor(value if value is not None else NOWHERE)
    pairs = [field.unflatten(0, (-1, 2)) for field in (boxes, scores, labels, present)]
    placed = [field.unflatten(0, (-1, 2)) for field in (places, valid, geometry, geometry_valid, covisibility)]
    return ViewDetections(*pairs), PlacedDetections(*placed)


def score(
    found: tuple[ViewDetections, PlacedDetections],
    truth: Objects,
    period: Tensor | None = None,
    scale: Tensor | None = None,
) -> dict[str, float]:
    metric = CrossViewMetrics()
    metric.update(torch.arange(len(truth.labels)), *found, truth, period, scale)
    return {name: float(value) for name, value in metric.compute().items()}


def shifted(box: list[float], dx: float, dy: float = 0.0) -> list[float]:
    return [box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy]


NAN = float("nan")
SHARED_A = annotated([(1, A1)], [(1, A2)])


@pytest.mark.parametrize(
    ("found", "truth", "area", "center"),
    [
        # both directions perfect
        (detected([(A1, 0.9, A2)], [(A2, 0.8, A1)]), SHARED_A, 1.0, 0.0),
        # only 1_to_2: half of the recall, at full precision
        (detected([(A1, 0.9, A2)], []), SHARED_A, 0.5, 0.0),
        # a box placed on the view that it comes from hits nothing: the other view's objects count
        (detected([(A1, 0.9, A1)], [(A2, 0.9, A2)]), SHARED_A, 0.0, math.hypot(305.0, 5.0)),
        # the pair's views differ: 2_to_1 may not be scored against view 2
        (detected([], [(A2, 0.9, A2)]), SHARED_A, 0.0, math.hypot(305.0, 5.0)),
        # double detection: the lower one is a false positive, here ranked before the hit of 2_to_1
        (detected([(A1, 0.9, A2), (A1, 0.8, A2)], [(A2, 0.1, A1)]), SHARED_A, (1 + 2 / 3) / 2, 0.0),
        # an object that is not in the other view: its placed detection is a false positive, and it has no centre there
        (
            detected([(B1, 0.9, B2), (A1, 0.8, A2)], []),
            annotated([(1, A1), (2, B1)], [(1, A2)]),
            0.5 * 0.5,
            0.0,
        ),
        # an object annotated without identity is not shared: on it a placed detection is false too
        (
            detected([(B1, 0.9, B2), (A1, 0.8, A2)], []),
            annotated([(1, A1), (None, B1)], [(1, A2), (None, B2)]),
            0.5 * 0.5,
            0.0,
        ),
        # difficult in one of the views: ignored in both directions, hit or missed; it still has a centre
        (
            detected([(B1, 0.9, shifted(B2, 4)), (A1, 0.8, A2)], [(A2, 0.7, A1)]),
            annotated([(1, A1), (2, B1)], [(1, A2), (2, B2, True)]),
            1.0,
            0.0,
        ),
        (detected([(B1, 0.9, B2)], []), annotated([(2, B1)], [(2, B2, True)]), NAN, 0.0),
        # a detection on an object that is difficult where it was seen is no true positive of detection
        (detected([(B1, 0.9, B2)], []), annotated([(2, B1, True)], [(2, B2)]), NAN, NAN),
        # without a valid place a detection is left out: no false positive, no centre
        (detected([(NOWHERE, 0.9, None), (A1, 0.8, A2)], [(A2, 0.7, None)]), SHARED_A, 0.5, 0.0),
        # another class
        (detected([(A1, 0.9, A2, {"label": 2})], []), SHARED_A, 0.0, NAN),
        # ranked by class score times co-visibility: the false one comes last
        (
            detected([(NOWHERE, 0.9, NOWHERE, {"covisibility": 0.1}), (A1, 0.5, A2)], [(A2, 0.5, A1)]),
            SHARED_A,
            1.0,
            0.0,
        ),
        # identities that float32 would merge
        (
            detected([(A1, 0.9, B2), (B1, 0.8, A2)], []),
            annotated([(2**24 + 1, A1), (2**24, B1)], [(2**24, A2), (2**24 + 1, B2)]),
            0.5,
            0.0,
        ),
        # a place is a hit for any shared object in the other view; its error is measured from its own
        (
            detected([(A1, 0.9, B2)], []),
            annotated([(1, A1), (2, B1)], [(1, A2), (2, B2)]),
            0.25,
            100.0,
        ),
        (detected([], []), SHARED_A, 0.0, NAN),  # no detections
        (detected([(A1, 0.9, A2)], []), annotated([(1, A1)], [(2, A2)]), NAN, NAN),  # nothing shared
        (detected([(A1, 0.9, A2)], []), annotated([], []), NAN, NAN),  # no objects
    ],
)
def test_cases(found: tuple[ViewDetections, PlacedDetections], truth: Objects, area: float, center: float) -> None:
    values = score(found, truth)
    assert values["ap50"] == pytest.approx(area, abs=1e-7, nan_ok=True)
    assert values["geometry_ap50"] == pytest.approx(area, abs=1e-7, nan_ok=True)
    assert values["center_px"] == pytest.approx(center, abs=1e-4, nan_ok=True)


def test_geometry_is_scored_by_its_own_boxes_and_validity() -> None:
    """The correction hits twice; geometry misses one and has no place for the other."""
    found = detected([(A1, 0.9, A2, {"geometry": NOWHERE})], [(A2, 0.8, A1, {"geometry": None})])
    values = score(found, SHARED_A)
    assert (values["ap50"], values["geometry_ap50"], values["center_px"]) == (1.0, 0.0, 0.0)
    found = detected([(A1, 0.9, None, {"geometry": A2})], [(A2, 0.8, NOWHERE, {"geometry": A1})])
    values = score(found, SHARED_A)
    assert (values["ap50"], values["geometry_ap50"]) == (0.0, 1.0)


def test_across_the_seam() -> None:
    """View 1 is 600 pixels around, view 2 400: each direction is measured in the view where the place is."""
    truth = annotated([(1, [590.0, 100.0, 610.0, 150.0])], [(1, [-10.0, 100.0, 20.0, 150.0])])
    found = detected(
        [([-10.0, 100.0, 10.0, 150.0], 0.9, [393.0, 100.0, 423.0, 150.0])],  # 3 pixels right of the object in view 2
        [([390.0, 100.0, 420.0, 150.0], 0.8, [-5.0, 100.0, 15.0, 150.0])],  # 5 pixels right of the object in view 1
    )
    values = score(found, truth, period=torch.tensor([600.0, 400.0]))
    assert values == {"ap50": 1.0, "geometry_ap50": 1.0, "center_px": pytest.approx(4.0)}
    assert score(found, truth)["ap50"] == 0.0  # ordinary images have no seam
    assert math.isnan(score(found, truth)["center_px"])


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (None, 5.0),  # network pixels
        (torch.tensor([2.0, 3.0]), math.hypot(2 * 3.0, 3 * 4.0)),
        (torch.tensor([[[9.0, 9.0], [2.0, 3.0]]]), math.hypot(2 * 3.0, 3 * 4.0)),  # the scale of the view of the place
    ],
)
def test_center_in_panorama_pixels(scale: Tensor | None, expected: float) -> None:
    found = detected([(A1, 0.9, shifted(A2, 3.0, 4.0))], [])
    assert score(found, SHARED_A, scale=scale)["center_px"] == pytest.approx(expected, abs=1e-4)


def test_center_is_the_median_of_all_directions() -> None:
    truth = annotated([(1, A1), (2, B1)], [(1, A2), (2, B2)])
    found = detected([(A1, 0.9, shifted(A2, 1.0)), (B1, 0.9, shifted(B2, 2.0))], [(A2, 0.9, shifted(A1, 500.0))])
    assert score(found, truth)["center_px"] == 2.0
    found = detected([(A1, 0.9, shifted(A2, 1.0)), (B1, 0.9, shifted(B2, 2.0))], [])
    assert score(found, truth)["center_px"] == 1.5


def test_two_pairs_that_share_a_view_are_scored_by_themselves() -> None:
    """Views (1, 2) and (1, 3): the same detections of view 1 are right in one pair and wrong in the other."""
    truth = annotated([(1, A1)], [(1, A2)], [(1, A1)], [(1, B2)])
    found = detected([(A1, 0.9, A2)], [(A2, 0.8, A1)], [(A1, 0.7, NOWHERE)], [(B2, 0.6, A1)])
    # Ranked: hit, hit, miss, hit; four objects.
    assert score(found, truth)["ap50"] == pytest.approx((1 + 1 + 3 / 4) / 4)


def test_a_repeated_pair_counts_once() -> None:
    metric = CrossViewMetrics()
    metric.update(torch.tensor([5]), *detected([(A1, 0.9, A2)], [(A2, 0.8, A1)]), SHARED_A)
    metric.update(torch.tensor([6]), *detected([], []), SHARED_A)
    assert float(metric.compute()["ap50"]) == 0.5
    metric.update(torch.tensor([5]), *detected([(A1, 0.9, A2)], [(A2, 0.8, A1)]), SHARED_A)
    assert float(metric.compute()["ap50"]) == 0.5


def test_without_room_for_objects_or_detections() -> None:
    """Tensors of size 0, not only padding."""
    found, placed = detected([(A1, 0.9, A2)], [])
    no_objects = Objects(*(field[:, :, :0] for field in SHARED_A))
    assert all(math.isnan(value) for value in score((found, placed), no_objects).values())
    nothing = ViewDetections(*(f[:, :, :0] for f in found)), PlacedDetections(*(f[:, :, :0] for f in placed))
    assert score(nothing, SHARED_A)["ap50"] == 0.0
