from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from crossview.detector.anchors import AnchorGrid
from crossview.detector.targets import NEUTRAL, AnchorMatches, assign, match_anchors, match_bipartite
from crossview.geometry.boxes import encode, iou, pairwise_iou, to_centers, to_corners

GOLDEN = Path(__file__).parents[1] / "golden"
ENCODINGS = sorted(GOLDEN.glob("encode_*.npz"))
VARIANCES = (0.1, 0.1, 0.2, 0.2)
with np.load(GOLDEN / "matching.npz") as archive:
    MATCHING = {name: archive[name] for name in archive.files}
CASES = MATCHING["names"].tolist()


@cache
def anchors_300x600() -> Tensor:
    """The reference's anchors, float64 pixels."""
    with np.load(GOLDEN / "anchors_ssd300_h300_w600.npz") as golden:
        return torch.from_numpy(golden["centroids"]) * torch.tensor([600.0, 300.0, 600.0, 300.0], dtype=torch.float64)


@cache
def default_anchors() -> Tensor:
    ratios = [[1, 2, 0.5], *([[1, 2, 0.5, 3, 1 / 3]] * 3), [1, 2, 0.5], [1, 2, 0.5]]
    maps = [(38, 75), (19, 38), (10, 19), (5, 10), (3, 8), (1, 6)]
    return AnchorGrid((0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05), ratios).boxes((300, 600), maps).float()


def image(rows: list[list[float]], labels: list[int] | None = None, ignored: list[int] | None = None):
    """Boxes, labels and ignored flags of one image, with a leading dimension."""
    return (
        torch.tensor(rows).reshape(1, -1, 4),
        torch.tensor([labels or [1] * len(rows)], dtype=torch.int64),
        torch.tensor([ignored or [0] * len(rows)]).bool(),
    )


# The greedy bipartite matching


def reference_greedy(weights: np.ndarray) -> list[int]:
    """One pair at a time, the largest first, ties to the lowest row, then to the lowest column."""
    left = weights.copy()
    chosen = [-1] * len(left)
    while left.size and left.max() > 0:
        row, column = np.unravel_index(left.argmax(), left.shape)
        chosen[row] = int(column)
        left[row], left[:, column] = 0, 0
    return chosen


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("defect")])
def test_bipartite_matching_of_the_reference(name):
    chosen = match_bipartite(torch.from_numpy(MATCHING[f"{name}_weights"])[None])
    assert chosen.tolist() == [MATCHING[f"{name}_bipartite"].tolist()]


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("defect")])
def test_multi_matching_of_the_reference(name):
    weights = torch.from_numpy(MATCHING[f"{name}_weights"])
    objects, best = assign(weights[None], float(MATCHING[f"{name}_threshold"]))
    expected = torch.full((weights.shape[1],), -1)
    expected[MATCHING[f"{name}_multi_after_anchor"]] = torch.from_numpy(MATCHING[f"{name}_multi_after_gt"])
    expected[MATCHING[f"{name}_bipartite"]] = torch.arange(len(weights))
    assert torch.equal(objects[0], expected)
    assert torch.equal(best[0], weights.amax(dim=0))


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("defect")])
def test_a_row_without_anything_left_takes_no_other_rows_match(name):
    # The reference matches row 0 again, to column 0, when it meets such a row.
    weights = MATCHING[f"{name}_weights"]
    chosen = match_bipartite(torch.from_numpy(weights)[None])[0].tolist()
    assert chosen == reference_greedy(weights)
    assert chosen != MATCHING[f"{name}_bipartite"].tolist()
    assert -1 in chosen


def test_all_matching_cases_as_one_batch():
    rows = max(MATCHING[f"{name}_weights"].shape[0] for name in CASES)
    columns = max(MATCHING[f"{name}_weights"].shape[1] for name in CASES)
    weights = torch.zeros(len(CASES), rows, columns, dtype=torch.float64)
    for number, name in enumerate(CASES):
        matrix = torch.from_numpy(MATCHING[f"{name}_weights"])
        weights[number, : len(matrix), : matrix.shape[1]] = matrix
    chosen = match_bipartite(weights)
    assert chosen.tolist() == [reference_greedy(matrix.numpy()) for matrix in weights]


@pytest.mark.parametrize("levels", [2, 5, 1000])  # few different values: many ties
def test_rounds_of_mutual_best_pairs_equal_one_pair_at_a_time(levels):
    generator = torch.Generator().manual_seed(levels)
    weights = torch.randint(0, levels, (60, 7, 12), generator=generator) / levels
    assert match_bipartite(weights).tolist() == [reference_greedy(matrix.numpy()) for matrix in weights]


@pytest.mark.parametrize("shape", [(2, 0, 5), (2, 3, 0), (0, 3, 5)])  # no objects, no anchors, no images
def test_bipartite_matching_of_nothing(shape):
    chosen = match_bipartite(torch.zeros(shape))
    assert chosen.shape == shape[:2]
    assert bool((chosen == -1).all())


# Targets of the reference


class Encoding:
    """One golden batch of four images, ready for `match_anchors`."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        with np.load(path) as golden:
            self.golden = {name: golden[name] for name in golden.files}
        images = int(self.golden["n_images"])
        counts = np.bincount(self.golden["gt_image"], minlength=images)
        self.boxes = torch.zeros(images, counts.max(), 4, dtype=dtype)
        self.labels = torch.zeros(images, counts.max(), dtype=torch.int64)
        for i in range(images):
            mine = self.golden["gt_image"] == i
            self.boxes[i, : counts[i]] = torch.from_numpy(self.golden["gt_boxes"][mine])
            self.labels[i, : counts[i]] = torch.from_numpy(self.golden["gt_labels"][mine])
        self.anchors = anchors_300x600().to(dtype)
        self.matches = match_anchors(
            self.anchors,
            self.boxes,
            self.labels,
            torch.zeros_like(self.labels).bool(),
            float(self.golden["pos_iou_threshold"]),
            float(self.golden["neg_iou_limit"]),
        )

    def expected(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels (N,), matched objects (N,) and offsets (N, 4) of image i."""
        labels, objects = np.zeros((2, len(self.anchors)), dtype=np.int64)
        offsets = np.zeros((len(self.anchors), 4))
        golden = self.golden
        labels[golden["neutral_anchor"][golden["neutral_image"] == i]] = NEUTRAL
        mine = golden["pos_image"] == i
        anchor = golden["pos_anchor"][mine]
        labels[anchor], objects[anchor] = golden["pos_class"][mine], golden["pos_gt"][mine]
        offsets[anchor] = golden["pos_offsets"][mine]
        return labels, objects, offsets

    def offsets(self, i: int, anchor: np.ndarray) -> np.ndarray:
        """Offsets of the objects that these anchors of image i are matched to."""
        chosen = torch.from_numpy(anchor)
        boxes = to_centers(self.boxes[i][self.matches.objects[i][chosen]])
        return encode(boxes, self.anchors[chosen], VARIANCES).numpy()


def test_there_are_clean_and_ambiguous_images_with_and_without_neutral_anchors():
    assert len(CASES) == 14
    assert len(ENCODINGS) == 12
    images = []
    for path in ENCODINGS:
        with np.load(path) as golden:
            images += [(bool(clean), float(golden["neg_iou_limit"])) for clean in golden["image_clean"]]
            if golden["neg_iou_limit"] < 0.5:
                assert len(golden["neutral_anchor"]) > 1000
    assert len(images) == 48
    assert (images.count((True, 0.5)), images.count((True, 0.3))) == (15, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("path", ENCODINGS, ids=lambda path: path.stem)
def test_encodings_of_the_reference(path, dtype):
    batch = Encoding(path, dtype)
    golden = batch.golden
    for i in range(int(golden["n_images"])):
        labels, objects = batch.matches.labels[i].numpy(), batch.matches.objects[i].numpy()
        expected_labels, expected_objects, expected_offsets = batch.expected(i)
        agree = (labels == expected_labels) & (objects == expected_objects)
        mine = golden["gt_image"] == i
        if golden["image_clean"][i]:
            assert agree.all()
            assert (labels == 0).sum() == golden["n_background"][i]
        else:
            # Near-ties, decided by the last bits of the reference's arithmetic.
            excused = np.concatenate(
                (golden["amb_anchor"][golden["amb_image"] == i], golden["gt_bipartite_anchor"][mine])
            )
            assert set(np.flatnonzero(~agree)) <= set(excused)
        positive = np.flatnonzero(agree & (labels > 0))
        tolerance = 1e-4 if dtype == torch.float32 else 1e-9
        np.testing.assert_allclose(
            batch.offsets(i, positive), expected_offsets[positive], rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("path", ENCODINGS, ids=lambda path: path.stem)
def test_every_object_is_given_an_anchor_as_good_as_the_reference_gave_it(path, dtype):
    batch = Encoding(path, dtype)
    golden = batch.golden
    overlaps = pairwise_iou(batch.boxes, to_corners(batch.anchors).expand(len(batch.boxes), -1, -1))
    overlaps *= (batch.labels > 0)[..., None]
    chosen = match_bipartite(overlaps)
    differing = 0
    for i, overlap in enumerate(overlaps):
        best = golden["gt_bipartite_iou"][golden["gt_image"] == i]
        objects = torch.arange(len(best))
        forced = chosen[i, : len(best)]
        assert forced.tolist() == reference_greedy(overlap[: len(best)].numpy())
        assert torch.equal(batch.matches.objects[i][forced], objects)
        assert torch.equal(batch.matches.labels[i][forced], batch.labels[i, : len(best)])
        far = np.abs(overlap[objects, forced].numpy() - best) > 1e-6
        assert not (far.any() and golden["image_clean"][i])
        differing += int(far.sum())
    # Of two equally good anchors, one may be the best that is left for a further object: the tie decides that too.
    assert differing <= 1


# Rules, one by one


def test_thresholds_include_equality_and_forced_anchors_need_no_overlap():
    # Squares of 12 pixels, one shifted by s: overlap (12 - s) / (12 + s).
    boxes, labels, ignored = image([[0.0, 0.0, 12.0, 12.0], [100.0, 0.0, 104.0, 4.0]], [2, 3])
    anchors = torch.tensor(
        [
            [6.0, 6.0, 12.0, 12.0],  # 1: the same box
            [10.0, 6.0, 12.0, 12.0],  # 1 / 2 exactly
            [10.01, 6.0, 12.0, 12.0],  # just below 1 / 2
            [12.0, 6.0, 12.0, 12.0],  # 1 / 3
            [106.0, 6.0, 12.0, 12.0],  # 1 / 9 of the small object, its best
        ]
    )
    strict = match_anchors(anchors, boxes, labels, ignored, 0.5, 0.5)
    assert strict.labels.tolist() == [[2, 2, 0, 0, 3]]
    assert strict.objects.tolist() == [[0, 0, 0, 0, 1]]
    third = float(iou(boxes[0, 0], to_corners(anchors[3])))
    assert match_anchors(anchors, boxes, labels, ignored, 0.5, third).labels.tolist() == [[2, 2, -1, -1, 3]]
    assert match_anchors(anchors, boxes, labels, ignored, 0.5, third + 1e-6).labels.tolist() == [[2, 2, -1, 0, 3]]
    assert match_anchors(anchors, boxes, labels, ignored, third, third).labels.tolist() == [[2, 2, 2, 2, 3]]


def test_a_forced_anchor_goes_to_its_object_although_another_overlaps_it_more():
    # Both objects like anchor 0 best; the second, which overlaps it less, is left with anchor 1.
    boxes, labels, ignored = image([[0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 10.0, 10.0]], [1, 2])
    anchors = torch.tensor([[5.0, 5.0, 10.0, 10.0], [4.0, 5.0, 10.0, 10.0]])
    assert float(iou(boxes[0, 0], to_corners(anchors[1]))) > float(iou(boxes[0, 1], to_corners(anchors[1])))
    matches = match_anchors(anchors, boxes, labels, ignored)
    assert matches.labels.tolist() == [[1, 2]]
    assert matches.objects.tolist() == [[0, 1]]


@pytest.mark.parametrize("slots", [0, 3])  # a batch without objects, and one of padding alone
def test_images_without_objects_are_all_background(slots):
    padding = torch.zeros(2, slots, dtype=torch.int64)
    boxes = torch.zeros(2, slots, 4)
    matches = match_anchors(default_anchors(), boxes, padding, padding.bool(), period=torch.tensor([600.0, 600.0]))
    assert matches.labels.shape == matches.objects.shape == (2, 17292)
    assert matches.labels.dtype == matches.objects.dtype == torch.int64
    assert not matches.labels.any()
    assert not matches.objects.any()


def test_padding_is_matched_to_nothing_whatever_its_box():
    boxes, labels, ignored = image([[100.0, 100.0, 160.0, 200.0], [300.0, 100.0, 360.0, 200.0]], [1, 0])
    alone = match_anchors(default_anchors(), boxes[:, :1], labels[:, :1], ignored[:, :1])
    padded = match_anchors(default_anchors(), boxes, labels, ignored)
    assert torch.equal(alone.labels, padded.labels)
    assert torch.equal(alone.objects, padded.objects)
    # Not even when it is flagged as ignored.
    flagged = match_anchors(default_anchors(), boxes, labels, torch.tensor([[False, True]]))
    assert torch.equal(alone.labels, flagged.labels)


def test_anchors_over_ignored_objects_are_neutral_unless_positive_for_another():
    rows = [[100.0, 100.0, 160.0, 200.0], [110.0, 100.0, 170.0, 200.0], [400.0, 100.0, 460.0, 200.0]]
    boxes, labels, ignored = image(rows, [1, 2, 2], [0, 1, 1])
    anchors = default_anchors()
    first = match_anchors(anchors, boxes[:, :1], labels[:, :1], ignored[:, :1]).labels[0]
    matches = match_anchors(anchors, boxes, labels, ignored)
    assert torch.equal(matches.labels[0] == 1, first == 1)
    assert int((matches.labels == 2).sum()) == 0  # ignored objects have no anchor, not even their best
    over = iou(boxes[0, 1:, None], to_corners(anchors)).amax(dim=0) >= 0.5
    assert torch.equal(matches.labels[0] == NEUTRAL, over & (first != 1))
    assert not matches.objects[matches.labels == NEUTRAL].any()


def test_an_object_across_the_seam_matches_anchors_at_both_edges():
    boxes, labels, ignored = image([[570.0, 100.0, 630.0, 200.0]])
    anchors = default_anchors()
    around = torch.tensor([600.0])
    positive = match_anchors(anchors, boxes, labels, ignored, period=around).labels[0] > 0
    matched = anchors[positive]
    assert bool((matched[:, 0] < 50).any())
    assert bool((matched[:, 0] > 550).any())
    offsets = encode(to_centers(boxes[0, :1]), matched, VARIANCES, 600.0)
    # Centres are at most a width apart on the short way; the long way around is ten anchors.
    assert float(offsets[:, 0].abs().max()) < 1 / 0.1
    # The same object seen 300 pixels to the left matches the same anchors there: 300 is a multiple of the stride of 8.
    left = match_anchors(anchors, boxes - torch.tensor([300.0, 0.0, 300.0, 0.0]), labels, ignored, period=around)
    middle = anchors[left.labels[0] > 0]
    moved = torch.remainder(matched[:, 0] - 300, 600)
    assert torch.equal(
        torch.stack((moved, *matched[:, 1:].unbind(1)), 1).round(decimals=2).unique(dim=0),
        middle.round(decimals=2).unique(dim=0),
    )


def test_without_a_period_an_object_past_the_edge_does_not_reach_around():
    boxes, labels, ignored = image([[570.0, 100.0, 630.0, 200.0]])
    matched = default_anchors()[match_anchors(default_anchors(), boxes, labels, ignored).labels[0] > 0]
    assert float(matched[:, 0].min()) > 500


def test_a_batch_equals_its_images_with_a_period_each():
    generator = torch.Generator().manual_seed(3)
    low = torch.rand(4, 6, 2, generator=generator) * torch.tensor([560.0, 200.0])
    boxes = torch.cat((low, low + 20 + 80 * torch.rand(4, 6, 2, generator=generator)), dim=-1)
    labels = torch.randint(0, 4, (4, 6), generator=generator)
    labels[2] = 0
    ignored = torch.rand(4, 6, generator=generator) < 0.2
    around = torch.tensor([600.0, 650.0, 600.0, 900.0])
    together = match_anchors(default_anchors(), boxes, labels, ignored, 0.5, 0.4, around)
    for i in range(4):
        one = slice(i, i + 1)
        alone = match_anchors(default_anchors(), boxes[one], labels[one], ignored[one], 0.5, 0.4, around[one])
        assert torch.equal(together.labels[one], alone.labels)
        assert torch.equal(together.objects[one], alone.objects)


def test_every_object_that_overlaps_an_anchor_is_given_one():
    generator = torch.Generator().manual_seed(4)
    low = torch.rand(3, 40, 2, generator=generator) * torch.tensor([600.0, 290.0])
    boxes = torch.cat((low, low + 2 + 40 * torch.rand(3, 40, 2, generator=generator)), dim=-1)
    labels = torch.ones(3, 40, dtype=torch.int64)
    matches: AnchorMatches = match_anchors(
        default_anchors(), boxes, labels, labels == 0, period=torch.full((3,), 600.0)
    )
    for i in range(3):
        assert matches.objects[i][matches.labels[i] > 0].unique().tolist() == list(range(40))
