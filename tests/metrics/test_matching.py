from pathlib import Path

import numpy as np
import pytest
import torch

from crossview.metrics import matching
from crossview.metrics.matching import (
    FALSE_POSITIVE,
    NEUTRAL,
    TRUE_POSITIVE,
    DetectionRows,
    Matches,
    ObjectRows,
    match,
)

# Inputs and flags as ssd_keras (Apache 2.0, commit 3ac9adaf) matches them, "half" border.
GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("ap_*.npz"))
A, B = [0.0, 0.0, 10.0, 10.0], [100.0, 0.0, 110.0, 10.0]  # far from each other
NEAR_A = [0.0, 0.0, 10.0, 9.0]  # IoU with A: 0.9


def detections(*rows: tuple[int, int, float, list[float]]) -> DetectionRows:
    """Rows of key, class, score, box."""
    keys, labels, scores, boxes = zip(*rows, strict=True) if rows else ([], [], [], [])
    return DetectionRows(
        torch.tensor(keys, dtype=torch.int64),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(scores, dtype=torch.float64),
        torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
    )


def objects(*rows: tuple[int, int, list[float], bool]) -> ObjectRows:
    """Rows of key, class, box, difficult."""
    keys, labels, boxes, difficult = zip(*rows, strict=True) if rows else ([], [], [], [])
    return ObjectRows(
        torch.tensor(keys, dtype=torch.int64),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        torch.tensor(difficult, dtype=torch.bool),
    )


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@pytest.mark.parametrize("mode", ["ignore", "count"])
def test_flags_of_the_oracle(path: Path, mode: str) -> None:
    with np.load(path) as stored:
        oracle = {name: torch.from_numpy(stored[name]) for name in stored.files if stored[name].ndim}
        n_classes = int(stored["n_classes"])
    difficult = oracle["gt_difficult"] if mode == "ignore" else torch.zeros_like(oracle["gt_difficult"])
    matches = match(
        DetectionRows(oracle["det_image"], oracle["det_label"], oracle["det_score"], oracle["det_box"]),
        ObjectRows(oracle["gt_image"], oracle["gt_label"], oracle["gt_box"], difficult),
    )
    assert n_classes > 0
    for label in range(1, n_classes + 1):
        order, flags = oracle[f"half_{mode}_c{label}_order"], oracle[f"half_{mode}_c{label}_flag"]
        assert torch.equal(matches.flags[order], flags)


@pytest.mark.parametrize(
    ("found", "truth", "flags", "targets"),
    [
        # a hit, and a detection of nothing
        ([(0, 1, 0.9, A), (0, 1, 0.8, B)], [(0, 1, A, False)], [TRUE_POSITIVE, FALSE_POSITIVE], [0, -1]),
        # the higher score claims the object, in whatever order they come
        ([(0, 1, 0.3, A), (0, 1, 0.9, NEAR_A)], [(0, 1, A, False)], [FALSE_POSITIVE, TRUE_POSITIVE], [0, 0]),
        # equal scores: the first of the input
        ([(0, 1, 0.5, NEAR_A), (0, 1, 0.5, A)], [(0, 1, A, False)], [TRUE_POSITIVE, FALSE_POSITIVE], [0, 0]),
        # difficult objects are neutral for any number of detections
        ([(0, 1, 0.9, A), (0, 1, 0.8, A)], [(0, 1, A, True)], [NEUTRAL, NEUTRAL], [0, 0]),
        # the best object takes it, though it is difficult and another one would do
        ([(0, 1, 0.9, A)], [(0, 1, NEAR_A, False), (0, 1, A, True)], [NEUTRAL], [1]),
        # the best object takes it, though it is taken and another one would do
        (
            [(0, 1, 0.9, A), (0, 1, 0.8, A)],
            [(0, 1, NEAR_A, False), (0, 1, A, False)],
            [TRUE_POSITIVE, FALSE_POSITIVE],
            [1, 1],
        ),
        # two objects equally good: the first
        ([(0, 1, 0.9, A)], [(0, 1, B, False), (0, 1, A, False), (0, 1, A, False)], [TRUE_POSITIVE], [1]),
        # an overlap of exactly the threshold is enough
        ([(0, 1, 0.9, [0.0, 0.0, 10.0, 5.0])], [(0, 1, A, False)], [TRUE_POSITIVE], [0]),
        # slightly less is not
        ([(0, 1, 0.9, [0.0, 0.0, 10.0, 4.999999])], [(0, 1, A, False)], [FALSE_POSITIVE], [-1]),
        # another class
        ([(0, 2, 0.9, A)], [(0, 1, A, False)], [FALSE_POSITIVE], [-1]),
        # another key; class and key must not be mixed up either
        ([(1, 2, 0.9, A), (2, 1, 0.9, A)], [(1, 1, A, False), (2, 2, A, False)], [FALSE_POSITIVE] * 2, [-1, -1]),
        # each key has its own claims; the higher score elsewhere does not matter
        (
            [(2**40, 1, 0.1, A), (2**40 + 1, 1, 0.9, A)],
            [(2**40 + 1, 1, A, False), (2**40, 1, A, False)],
            [TRUE_POSITIVE, TRUE_POSITIVE],
            [1, 0],
        ),
        ([(0, 1, 0.9, A)], [], [FALSE_POSITIVE], [-1]),  # no objects
        ([], [(0, 1, A, False)], [], []),  # no detections
        ([], [], [], []),  # nothing
        ([(0, 1, 0.9, [float("nan")] * 4)], [(0, 1, A, False)], [FALSE_POSITIVE], [-1]),  # a broken box hits nothing
    ],
)
def test_rule(found, truth, flags, targets):
    matches = match(detections(*found), objects(*truth))
    assert matches.flags.tolist() == flags
    assert matches.targets.tolist() == targets


@pytest.mark.parametrize(
    ("period", "flags"),
    [
        (600.0, [TRUE_POSITIVE, TRUE_POSITIVE]),  # the same panorama width for all
        (torch.tensor([600.0, float("inf")]), [TRUE_POSITIVE, FALSE_POSITIVE]),  # one panorama, one ordinary image
        (None, [FALSE_POSITIVE, FALSE_POSITIVE]),  # ordinary images
    ],
)
def test_seam(period: torch.Tensor | float | None, flags: list[int]) -> None:
    """The object crosses the seam; the detection says the same on its other side."""
    crossing, same = [590.0, 0.0, 610.0, 10.0], [-10.0, 0.0, 10.0, 10.0]
    found = detections((0, 1, 0.9, same), (1, 1, 0.8, same))
    assert (
        match(found, objects((0, 1, crossing, False), (1, 1, crossing, False)), period=period).flags.tolist() == flags
    )


def plain_iou(box: list[float], other: list[float], period: float) -> float:
    best = 0.0
    for shift in (-period, 0.0, period):
        width = min(box[2] + shift, other[2]) - max(box[0] + shift, other[0])
        height = min(box[3], other[3]) - max(box[1], other[1])
        shared = max(width, 0.0) * max(height, 0.0)
        areas = sum((one[2] - one[0]) * (one[3] - one[1]) for one in (box, other))
        best = max(best, shared / (areas - shared))
    return best


def plain_match(found: DetectionRows, truth: ObjectRows, period: float) -> Matches:
    """The rule as one would write it down, one detection after the other."""
    flags, targets, taken = [FALSE_POSITIVE] * len(found.keys), [-1] * len(found.keys), set()
    for d in sorted(range(len(flags)), key=lambda d: -float(found.scores[d])):
        best, target = 0.0, -1
        for g in range(len(truth.keys)):
            if truth.keys[g] == found.keys[d] and truth.labels[g] == found.labels[d]:
                overlap = plain_iou(found.boxes[d].tolist(), truth.boxes[g].tolist(), period)
                if overlap > best:
                    best, target = overlap, g
        if best < 0.5:
            continue
        targets[d] = target
        if truth.difficult[target]:
            flags[d] = NEUTRAL
        elif target not in taken:
            taken.add(target)
            flags[d] = TRUE_POSITIVE
    return Matches(torch.tensor(flags), torch.tensor(targets))


@pytest.mark.parametrize("at_once", [1, 50, 2**18])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_plain_rule(seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Integer boxes in a narrow panorama and few different scores: many ties, claims and seam crossings."""
    monkeypatch.setattr(matching, "MOST_CANDIDATES", at_once)
    draw = torch.Generator().manual_seed(seed)
    low = torch.randint(0, 40, (120, 2), generator=draw) // torch.tensor([1, 5])
    boxes = torch.cat((low, low + torch.randint(8, 16, (120, 2), generator=draw)), dim=-1).double()
    keys, labels, scores = (torch.randint(0, high, (120,), generator=draw) for high in (2, 2, 10))
    found = DetectionRows(keys[:80], labels[:80], scores[:80], boxes[:80])
    truth = ObjectRows(keys[80:], labels[80:], boxes[80:], scores[80:] < 3)
    matches, expected = match(found, truth, period=40.0), plain_match(found, truth, 40.0)
    assert set(expected.flags.tolist()) == {NEUTRAL, TRUE_POSITIVE, FALSE_POSITIVE}
    assert torch.equal(matches.flags, expected.flags)
    assert torch.equal(matches.targets, expected.targets)
