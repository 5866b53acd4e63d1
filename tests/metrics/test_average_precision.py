from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from crossview.detector.detections import ViewDetections
from crossview.metrics.average_precision import DetectionAP, average_precision, voc07_ap11, voc10_area
from crossview.metrics.matching import FALSE_POSITIVE, NEUTRAL, TRUE_POSITIVE, DetectionRows, ObjectRows, match

# Inputs and flags as ssd_keras (Apache 2.0, commit 3ac9adaf) matches them, "half" border; the exact values are
# the published rules, applied to these flags.
GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("ap_*.npz"))
A, B = [0.0, 0.0, 10.0, 10.0], [100.0, 0.0, 110.0, 10.0]  # far from each other


class Objects(NamedTuple):
    boxes: Tensor
    labels: Tensor
    difficult: Tensor
    present: Tensor


def detected(*views: list[tuple[int, float, list[float]]], padding: int = 0) -> ViewDetections:
    """Views with rows of class, score, box."""
    size = max(len(rows) for rows in views) + padding
    boxes, scores = torch.zeros(len(views), size, 4), torch.zeros(len(views), size)
    labels, present = torch.zeros(len(views), size, dtype=torch.int64), torch.zeros(len(views), size, dtype=torch.bool)
    for view, rows in enumerate(views):
        for row, (label, score, box) in enumerate(rows):
            boxes[view, row], scores[view, row] = torch.tensor(box), score
            labels[view, row], present[view, row] = label, True
    return ViewDetections(boxes, scores, labels, present)


def annotated(*views: list[tuple[int, list[float], bool]], padding: int = 0) -> Objects:
    """Views with rows of class, box, difficult."""
    size = max(len(rows) for rows in views) + padding
    boxes, labels = torch.zeros(len(views), size, 4), torch.zeros(len(views), size, dtype=torch.int64)
    difficult, present = torch.zeros(2, len(views), size, dtype=torch.bool)
    for view, rows in enumerate(views):
        for row, (label, box, hard) in enumerate(rows):
            boxes[view, row], labels[view, row] = torch.tensor(box), label
            difficult[view, row], present[view, row] = hard, True
    return Objects(boxes, labels, difficult, present)


def keys(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def score(found: ViewDetections, truth: Objects, period: float | None = None) -> tuple[float, float]:
    metric = DetectionAP()
    metric.update(torch.arange(len(found.present)), found, truth, period)
    result = metric.compute()
    return float(result["ap50"]), float(result["voc07_ap"])


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@pytest.mark.parametrize("mode", ["ignore", "count"])
def test_values_of_the_oracle(path: Path, mode: str) -> None:
    with np.load(path) as stored:
        oracle = {name: torch.from_numpy(stored[name]) for name in stored.files if stored[name].ndim}
    difficult = oracle["gt_difficult"] if mode == "ignore" else torch.zeros_like(oracle["gt_difficult"])
    flags = match(
        DetectionRows(oracle["det_image"], oracle["det_label"], oracle["det_score"], oracle["det_box"]),
        ObjectRows(oracle["gt_image"], oracle["gt_label"], oracle["gt_box"], difficult),
    ).flags
    result = average_precision(oracle["det_label"], oracle["det_score"], flags, oracle["gt_label"][~difficult])
    assert torch.equal(result.n_objects, oracle[f"half_{mode}_num_gt"])
    for values, name in ((result.voc10_area, "ap_voc2010_exact"), (result.voc07_ap11, "ap_voc07_exact")):
        torch.testing.assert_close(values, oracle[f"half_{mode}_{name}"], rtol=0, atol=1e-12)


def test_there_are_golden_files() -> None:
    assert len(GOLDEN) == 4


T, F, N = TRUE_POSITIVE, FALSE_POSITIVE, NEUTRAL


@pytest.mark.parametrize(
    ("flags", "n_objects", "area", "eleven"),
    [
        ([T], 1, 1.0, 1.0),  # a perfect detector with one object: the first step of recall counts
        ([T, T, T], 3, 1.0, 1.0),
        ([], 2, 0.0, 0.0),  # nothing detected
        ([F, F], 2, 0.0, 0.0),
        ([F, T], 1, 0.5, 0.5),
        ([N, F, N, T, N], 1, 0.5, 0.5),  # neutral ones leave no trace
        ([T, F, F, F], 2, 0.5, 6 / 11),  # half of the objects: 11 points reach recall 0, 0.1, ... 0.5
        ([T, F, T], 2, (1 + 2 / 3) / 2, (6 + 5 * 2 / 3) / 11),
        ([F, T, T, T], 3, 0.75, 0.75),  # precision is made monotone
        *(([T] * hits, 10, hits / 10, (hits + 1) / 11) for hits in range(11)),  # recalls on the points, the trap
        *(([T] * hits, 30, hits / 30, (hits // 3 + 1) / 11) for hits in (8, 9, 17, 18, 20, 21)),  # and just below
    ],
)
def test_rules(flags: list[int], n_objects: int, area: float, eleven: float) -> None:
    ranked = torch.tensor(flags, dtype=torch.int64)
    if not flags:
        eleven = 0.0
    assert float(voc10_area(ranked, n_objects)) == pytest.approx(area, abs=1e-12)
    assert float(voc07_ap11(ranked, n_objects)) == pytest.approx(eleven, abs=1e-12)


def test_mean_over_classes_with_objects() -> None:
    """Class 1 is perfect, class 2 is missed, class 3 has detections but no objects, class 4 only a difficult one."""
    found = detected([(1, 0.9, A), (3, 0.8, A), (4, 0.7, B)])
    truth = annotated([(1, A, False), (2, B, False), (4, B, True)])
    assert score(found, truth) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("found", "truth", "area"),
    [
        (detected([(1, 0.9, A), (1, 0.1, B)]), annotated([(1, B, False), (1, A, False)]), 1.0),  # perfect
        (detected([(1, 0.9, A)]), annotated([(2, A, False)]), 0.0),  # another class
        (detected([(1, 0.9, A), (1, 0.8, A), (1, 0.7, B)]), annotated([(1, A, False), (1, B, False)]), 5 / 6),  # twice
        (detected([(1, 0.9, B), (1, 0.8, A)]), annotated([(1, A, False), (1, B, True)]), 1.0),  # difficult, detected
        (detected([(1, 0.9, A)]), annotated([(1, A, False), (1, B, True)]), 1.0),  # difficult, missed
        (detected([(1, 0.9, A)]), annotated([]), float("nan")),  # no objects
        (detected([(1, 0.9, A)]), annotated([(1, A, True)]), float("nan")),  # only difficult ones
        (detected([]), annotated([(1, A, False)]), 0.0),  # no detections
        (detected([]), annotated([]), float("nan")),  # nothing
        (detected([(1, 0.9, A)], padding=3), annotated([(1, A, False)], padding=2), 1.0),  # padding does not count
        (detected([(1, 0.9, A)], []), annotated([], [(1, A, False)]), 0.0),  # of the other view
    ],
)
def test_detection(found: ViewDetections, truth: Objects, area: float) -> None:
    assert score(found, truth)[0] == pytest.approx(area, abs=1e-12, nan_ok=True)


def test_hit_across_the_seam() -> None:
    found, truth = detected([(1, 0.9, [-9.0, 0.0, 10.0, 10.0])]), annotated([(1, [590.0, 0.0, 610.0, 10.0], False)])
    assert score(found, truth, period=600.0) == (1.0, 1.0)
    assert score(found, truth) == (0.0, 0.0)


def test_a_view_in_several_pairs_counts_once() -> None:
    """View 7 is perfect and in three pairs, view 8 is missed: with repetitions the value would not be a half."""
    metric = DetectionAP()
    good, bad = [(1, 0.9, A)], [(1, A, False)]
    metric.update(keys(7, 8), detected(good, []), annotated(bad, bad))
    metric.update(keys(9, 7, 7), detected([], good, good), annotated([], bad, bad))
    assert float(metric.compute()["ap50"]) == 0.5


def random_views(count: int, seed: int = 0) -> tuple[ViewDetections, Objects]:
    """Views with up to 6 objects of 2 classes, and as many detections, some near them; scores with many ties."""
    draw = torch.Generator().manual_seed(seed)
    low = 100 * torch.rand(count, 6, 2, generator=draw)
    boxes = torch.cat((low, low + 20 + 30 * torch.rand(count, 6, 2, generator=draw)), dim=-1)
    labels = torch.randint(1, 3, (count, 6), generator=draw)
    kept, hard, found = (torch.rand(3, count, 6, generator=draw) < torch.tensor([0.8, 0.1, 0.8]).view(3, 1, 1)).unbind()
    scores = torch.randint(1, 6, (count, 6), generator=draw) / 6
    noisy = boxes + 8 * torch.randn(count, 6, 4, generator=draw)
    return ViewDetections(noisy, scores, labels, found), Objects(boxes, labels, hard, kept)


def test_neither_batches_nor_order_matter() -> None:
    found, truth = random_views(24)
    whole, parts = DetectionAP(), DetectionAP()
    whole.update(torch.arange(24), found, truth)
    for rows in torch.randperm(24, generator=torch.Generator().manual_seed(1)).split(5):
        parts.update(rows, ViewDetections(*(f[rows] for f in found)), Objects(*(f[rows] for f in truth)))
    assert 0.1 < float(whole.compute()["ap50"]) < 0.9
    assert parts.compute() == whole.compute()


def test_leading_shape_of_pairs() -> None:
    found, truth = random_views(6)
    flat, pairs = DetectionAP(), DetectionAP()
    flat.update(torch.arange(6), found, truth, torch.full((6,), 120.0))
    pairs.update(
        torch.arange(6).view(3, 2),
        ViewDetections(*(f.unflatten(0, (3, 2)) for f in found)),
        Objects(*(f.unflatten(0, (3, 2)) for f in truth)),
        torch.full((3, 2), 120.0),
    )
    assert pairs.compute() == flat.compute()


def test_reset_forgets_and_nothing_but_rows_is_kept() -> None:
    metric = DetectionAP()
    found, truth = random_views(10)
    for epoch in range(2):
        metric.update(torch.arange(10), found, truth)
        assert sum(len(part) for part in metric.detections) == int(found.present.sum()), epoch
        metric.compute()
        metric.reset()
    assert [len(part) for part in (*metric.blocks, *metric.detections, *metric.objects)] == [0, 0, 0]
    metric.update(keys(1), detected([(1, 0.9, A)]), annotated([(1, A, False)]))
    assert float(metric.compute()["ap50"]) == 1.0


def test_threshold_names_the_value() -> None:
    metric = DetectionAP(iou_threshold=0.75)
    metric.update(keys(1), detected([(1, 0.9, [0.0, 0.0, 10.0, 7.0])]), annotated([(1, A, False)]))
    assert float(metric.compute()["ap75"]) == 0.0


@pytest.mark.parametrize("wrong", [keys(1, 2), keys(1).float()])  # one too many, not int64
def test_wrong_keys_are_refused(wrong: Tensor) -> None:
    with pytest.raises(ValueError, match="expected int64 keys, one for each view"):
        DetectionAP().update(wrong, detected([(1, 0.9, A)]), annotated([(1, A, False)]))
