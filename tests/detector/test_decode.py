from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from crossview.detector import decode as decoding
from crossview.detector.decode import DetectionDecoder, decode_boxes, suppress
from crossview.geometry.boxes import pairwise_iou

GOLDEN = Path(__file__).parents[1] / "golden"
# Detections of the third file class by class at 0.01 are not in it: they would need all of its anchors.
CASES = [
    (path, decoder, threshold)
    for path in sorted(GOLDEN.glob("decode_*.npz"))
    for decoder in ("full", "fast")
    for threshold in ("c001", "c050")
    if (path.stem[7:10], decoder, threshold) != ("d03", "full", "c001")
]
VARIANCES = (0.1, 0.1, 0.2, 0.2)
BLOCKS = ((1, 1, 1), (2, 2, 8), (7, 1, 7), (16, 4, 64), (1024, 1, 1024))  # first, growth, largest


def anchors_300x600() -> Tensor:
    with np.load(GOLDEN / "anchors_ssd300_h300_w600.npz") as golden:
        return torch.from_numpy(golden["centroids"]) * torch.tensor([600.0, 300.0, 600.0, 300.0], dtype=torch.float64)


def use_blocks(monkeypatch, blocks: tuple[int, int, int]) -> None:
    for name, value in zip(("FIRST_BLOCK", "GROWTH", "LARGEST_BLOCK"), blocks, strict=True):
        monkeypatch.setattr(decoding, name, value)


# The reference's detections


def test_there_are_golden_files_with_and_without_detections():
    assert len(CASES) == 4 * 7 - 1
    for decoder in ("full", "fast"):
        counts = []
        for path, other, threshold in CASES:
            if other == decoder:
                with np.load(path) as golden:
                    counts.append(golden[f"{decoder}_{threshold}_count"])
        found = np.concatenate(counts)
        assert (found == 0).sum() >= 3
        assert (found == 200).sum() >= 3
        assert ((found > 0) & (found < 200)).sum() >= 3


@pytest.mark.parametrize(("blocks", "shortlist"), [((32, 4, 512), 16), ((64, 1, 64), 1)])
@pytest.mark.parametrize(
    ("path", "decoder", "threshold"), CASES, ids=["-".join((case[0].stem, *case[1:])) for case in CASES]
)
def test_detections_of_the_reference(path, decoder, threshold, blocks, shortlist, monkeypatch):
    use_blocks(monkeypatch, blocks)
    monkeypatch.setattr(decoding, "SHORTLIST", shortlist)
    with np.load(path) as golden:
        tag = f"{decoder}_{threshold}"
        anchors = anchors_300x600()[torch.from_numpy(golden["anchor"])]
        boxes = decode_boxes(torch.from_numpy(golden["loc"]).double(), anchors, VARIANCES)
        settings = DetectionDecoder({"c001": 0.01, "c050": 0.5}[threshold], per_class=decoder == "full")
        scores = torch.from_numpy(golden["class_probs"]).double()
        detections, indices = settings(scores, boxes)
        counts, rows, image = golden[f"{tag}_count"], golden[f"{tag}_rows"], golden[f"{tag}_image"]
        assert detections.boxes.shape == (len(counts), counts.max(), 4)
        assert detections.present.sum(dim=1).tolist() == counts.tolist()
        assert bool((detections.scores.diff(dim=1) <= 0).all())  # best first
        for i in range(len(counts)):
            here = detections.present[i]
            label, score = detections.labels[i][here], detections.scores[i][here]
            found = torch.cat((label[:, None], score[:, None], detections.boxes[i][here]), dim=1).numpy()
            wanted = rows[image == i]
            # Equal scores occur among the anchors at exactly the threshold, whose order is not the same.
            by = [np.lexsort((part[:, 2], part[:, 0], -part[:, 1])) for part in (found, wanted)]
            np.testing.assert_allclose(found[by[0]], wanted[by[1]], rtol=0, atol=1e-4)
            # The anchors are those that the boxes and scores came from.
            assert torch.equal(boxes[i][indices[i][here]], detections.boxes[i][here])
            assert torch.equal(scores[i][indices[i][here], label], score)


# Suppression


def greedy(boxes: Tensor, classes: Tensor | None, threshold: float, top_k: int, period: float | None) -> list[int]:
    """The definition: one box after the other, each against all that are kept."""
    overlap = pairwise_iou(boxes, boxes, period)
    if classes is not None:
        overlap = overlap * (classes[:, None] == classes)
    rivals = (overlap > threshold).tolist()
    kept: list[int] = []
    for i in range(len(boxes)):
        if not any(rivals[i][j] for j in kept):
            kept.append(i)
    return kept[:top_k]


def crowd(seed: int, count: int, clusters: int = 6) -> tuple[Tensor, Tensor]:
    """Boxes in clusters, some of them across the seam at 600, and classes."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(clusters, 2, generator=generator) * torch.tensor([600.0, 300.0])
    spread = 15 * torch.randn(count, 2, generator=generator)
    middle = centers[torch.randint(0, clusters, (count,), generator=generator)] + spread
    size = 30 + 40 * torch.rand(count, 2, generator=generator)
    classes = torch.randint(1, 3, (count,), generator=generator)
    return torch.cat((middle - size / 2, middle + size / 2), dim=1), classes


def survivors(
    boxes: Tensor, classes: Tensor | None, iou_threshold: float, top_k: int, period: float | None = None
) -> list[int]:
    """The kept boxes of a single image."""
    kept, is_kept = suppress(
        boxes[None],
        torch.ones(1, len(boxes), dtype=torch.bool),
        None if classes is None else classes[None],
        iou_threshold,
        top_k,
        None if period is None else torch.tensor([period]),
    )
    assert bool(is_kept.all())
    return list(kept[0].tolist())


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("period", [None, 600.0])
@pytest.mark.parametrize("per_class", [True, False])
def test_suppression_is_the_greedy_one_in_blocks_of_any_size(blocks, period, per_class, monkeypatch):
    use_blocks(monkeypatch, blocks)
    for seed, count in enumerate((0, 1, 2, 30, 90)):
        boxes, labels = crowd(seed, count)
        classes = labels if per_class else None
        for top_k in (1, 5, 200):
            kept = survivors(boxes, classes, 0.45, top_k, period)
            assert kept == greedy(boxes, classes, 0.45, top_k, period)


@pytest.mark.parametrize("blocks", BLOCKS)
def test_a_batch_of_different_lengths_equals_its_images(blocks, monkeypatch):
    use_blocks(monkeypatch, blocks)
    counts, around = (0, 40, 90, 3), torch.tensor([600.0, 600.0, 800.0, 600.0])
    boxes, labels = torch.zeros(4, 95, 4), torch.ones(4, 95, dtype=torch.int64)
    for i, count in enumerate(counts):
        boxes[i, :count], labels[i, :count] = crowd(i, count)
    present = torch.arange(95) < torch.tensor(counts)[:, None]
    for top_k in (5, 200):
        kept, is_kept = suppress(boxes, present, labels, 0.45, top_k, around)
        for i, count in enumerate(counts):
            alone = greedy(boxes[i, :count], labels[i, :count], 0.45, top_k, float(around[i]))
            assert kept[i][is_kept[i]].tolist() == alone
            assert bool(is_kept[i, : len(alone)].all())


@pytest.mark.parametrize("blocks", BLOCKS)
def test_a_suppressed_box_suppresses_nothing(blocks, monkeypatch):
    # A chain of boxes shifted by 3 of 10 pixels (overlap 7/13 > 0.45; of every second one 4/16): each second one stays.
    use_blocks(monkeypatch, blocks)
    left = torch.arange(9) * 3.0
    boxes = torch.stack((left, torch.zeros(9), left + 10, torch.full((9,), 10.0)), dim=1)
    assert survivors(boxes, None, 0.45, 200) == [0, 2, 4, 6, 8]
    assert survivors(boxes, None, 0.45, 3) == [0, 2, 4]


def test_equal_to_the_threshold_survives():
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 4.0], [0.0, 0.0, 8.0, 4.5]])  # overlap 1/2 and 9/16
    assert survivors(boxes, None, 0.5, 200) == [0, 1]
    assert survivors(boxes[:2], None, 0.4999, 200) == [0]


def test_boxes_suppress_each_other_across_the_seam():
    boxes = torch.tensor([[580.0, 0.0, 620.0, 50.0], [-19.0, 0.0, 21.0, 50.0], [560.0, 0.0, 600.0, 50.0]])
    assert survivors(boxes, None, 0.45, 200, period=600.0) == [0, 2]
    assert survivors(boxes, None, 0.45, 200) == [0, 1, 2]


# The decoder


def scored(rows: list[list[float]]) -> Tensor:
    """Scores (1, N, 1 + C) of anchors with these foreground scores."""
    foreground = torch.tensor(rows)
    return torch.cat((1 - foreground.sum(dim=1, keepdim=True), foreground), dim=1)[None]


def apart(count: int) -> Tensor:
    """Boxes (1, N, 4) that do not touch each other."""
    left = 20.0 * torch.arange(count)
    return torch.stack((left, left * 0, left + 10, left * 0 + 10), dim=1)[None]


@pytest.mark.parametrize(
    ("per_class", "threshold", "expected"),
    [
        # Class by class: every class over the threshold, strictly.
        (True, 0.25, [(0, 1, 0.625), (2, 2, 0.5), (1, 2, 0.375)]),
        (True, 0.2, [(0, 1, 0.625), (2, 2, 0.5), (1, 2, 0.375), (0, 2, 0.25), (1, 1, 0.25), (2, 1, 0.25)]),
        # The best class only, if it is not background (ties go to background), and the threshold itself counts.
        (False, 0.5, [(0, 1, 0.625), (2, 2, 0.5)]),
        (False, 0.01, [(0, 1, 0.625), (2, 2, 0.5)]),
        (False, 0.6, [(0, 1, 0.625)]),
    ],
)
def test_scores_and_classes(per_class, threshold, expected):
    scores = scored([[0.625, 0.25], [0.25, 0.375], [0.25, 0.5], [0.125, 0.125]])
    detections, anchors = DetectionDecoder(threshold, per_class=per_class)(scores, apart(4))
    found = zip(anchors[0].tolist(), detections.labels[0].tolist(), detections.scores[0].tolist(), strict=True)
    assert list(found) == expected


def test_classes_suppress_each_other_only_without_per_class():
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]]])
    scores = scored([[0.75, 0.125], [0.125, 0.625]])
    assert DetectionDecoder(0.2)(scores, boxes)[0].labels.tolist() == [[1, 2]]
    assert DetectionDecoder(0.2, per_class=False)(scores, boxes)[0].labels.tolist() == [[1]]


def test_every_image_goes_around_its_own_seam():
    boxes = torch.tensor([[580.0, 0.0, 620.0, 50.0], [-19.0, 0.0, 21.0, 50.0]]).expand(2, -1, -1)
    scores = scored([[0.5], [0.75]]).expand(2, -1, -1)
    detections, anchors = DetectionDecoder()(scores, boxes, torch.tensor([600.0, 1000.0]))
    assert detections.present.tolist() == [[True, False], [True, True]]
    assert anchors.tolist() == [[1, 0], [1, 0]]


def test_padding_is_zero():
    boxes = apart(3).expand(2, -1, -1) + 5
    scores = torch.cat((scored([[0.75], [0.5], [0.625]]), scored([[0.0], [0.875], [0.0]])))
    detections, anchors = DetectionDecoder()(scores, boxes)
    assert anchors.tolist() == [[0, 2, 1], [1, 0, 0]]
    assert detections.present.tolist() == [[True] * 3, [True, False, False]]
    assert detections.scores.tolist() == [[0.75, 0.625, 0.5], [0.875, 0, 0]]
    assert detections.labels.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert not detections.boxes[1, 1:].any()
    assert torch.equal(detections.boxes[1, 0], boxes[1, 1])


@pytest.mark.parametrize("images", [0, 2])
@pytest.mark.parametrize("per_class", [True, False])
def test_nothing_found(images, per_class):
    scores = scored([[0.0, 0.0]] * 5).expand(images, -1, -1)
    detections, anchors = DetectionDecoder(per_class=per_class)(scores, apart(5).expand(images, -1, -1))
    assert detections.boxes.shape == (images, 0, 4)
    assert (
        detections.scores.shape == detections.labels.shape == detections.present.shape == anchors.shape == (images, 0)
    )
    assert detections.labels.dtype == anchors.dtype == torch.int64


def test_equal_scores_keep_the_order_of_the_anchors():
    scores = scored([[0.5]] * 40)
    _, anchors = DetectionDecoder(top_k=30)(scores, apart(40))
    assert anchors.tolist() == [list(range(30))]


@pytest.mark.parametrize("shortlist", [1, 2, 16])
@pytest.mark.parametrize("per_class", [True, False])
def test_the_shortlist_grows_until_there_are_enough(shortlist, per_class, monkeypatch):
    # The ten best of an image are one another's rivals, and there are few different scores: many ties at its end.
    monkeypatch.setattr(decoding, "SHORTLIST", shortlist)
    boxes, _ = crowd(2, 90)
    boxes[:10] = boxes[0]
    foreground = torch.randint(0, 8, (90, 2), generator=torch.Generator().manual_seed(0)) / 16
    foreground[:10] = torch.tensor([0.5, 0.4])
    scores = scored(foreground.tolist())
    for top_k in (1, 6, 20):
        detections, anchors = DetectionDecoder(0.01, 0.45, top_k, per_class)(scores, boxes[None])
        values = scores[0, :, 1:].flatten() if per_class else scores[0].max(dim=1).values
        labels = torch.tensor([1, 2]).repeat(90) if per_class else scores[0].argmax(dim=1)
        order = values.masked_fill((labels == 0) | (values <= 0.01), -1).argsort(descending=True, stable=True)
        order = order[(labels[order] > 0) & (values[order] > 0.01)]
        anchor, label = order // (2 if per_class else 1), labels[order]
        classes = label if per_class else None
        expected = greedy(boxes[anchor], classes, 0.45, top_k, None)
        if shortlist == 1 and top_k == 6:  # the first six are not enough
            first = None if classes is None else classes[:6]
            assert len(greedy(boxes[anchor[:6]], first, 0.45, 6, None)) < len(expected)
        assert anchors[0].tolist() == anchor[expected].tolist()
        assert detections.labels[0].tolist() == label[expected].tolist()


def test_decoded_boxes_by_hand():
    anchors = torch.tensor([[100.0, 50.0, 40.0, 20.0]])
    offsets = torch.tensor([[[1.0, -2.0, 5 * np.log(2), 5 * np.log(0.5)]], [[0.0, 0.0, 0.0, 0.0]]], dtype=torch.float32)
    # Centre (100 + 0.1 * 40, 50 - 0.2 * 20), size (80, 10)
    expected = torch.tensor([[[64.0, 41.0, 144.0, 51.0]], [[80.0, 40.0, 120.0, 60.0]]])
    torch.testing.assert_close(decode_boxes(offsets, anchors, VARIANCES), expected)


@pytest.mark.parametrize(
    "settings",
    [{"score_threshold": -0.1}, {"score_threshold": 1.0}, {"iou_threshold": 0.0}, {"iou_threshold": 1.1}, {"top_k": 0}],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="decoder: expected"):
        DetectionDecoder(**settings)
