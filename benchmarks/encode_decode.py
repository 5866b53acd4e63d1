"""What encoding targets and decoding detections cost: ``python -m benchmarks.encode_decode``.

In turn, on the same inputs in the same process: the package, and a yardstick that does the same in plain NumPy as
ssd_keras does (one image after the other in float64, the dense target array, a greedy loop with one pass over all
anchors an object, suppression that copies what is left of an array once per kept box). The figures of ssd_keras were
measured on another machine. A transcription of its arithmetic was also timed beside the yardstick, in turn in one
process on a busy machine: `REFERENCE_PER_YARDSTICK`, the ratio of the two, turns the yardstick's time into what
ssd_keras would take here and now. The dense worst case is not run; its 47.9 s are scaled like the sparse one.

Times are of the processor and of one thread, which other work on the machine disturbs less than the wall clock.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossview.detector.anchors import AnchorGrid
from crossview.detector.decode import DetectionDecoder, decode_boxes
from crossview.detector.targets import match_anchors
from crossview.geometry.boxes import encode, to_centers

Array = NDArray[np.float64]

INPUTS = Path(__file__).parents[1] / "tests" / "golden" / "speed_inputs.npz"
IMAGE_SIZE = (300, 600)
MAP_SIZES = [(38, 75), (19, 38), (10, 19), (5, 10), (3, 8), (1, 6)]
RATIOS = [[1, 2, 0.5], *([[1, 2, 0.5, 3, 1 / 3]] * 3), [1, 2, 0.5], [1, 2, 0.5]]
SCALES = (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05)
STEPS = (8, 16, 32, 64, 100, 300)
VARIANCES = (0.1, 0.1, 0.2, 0.2)
IOU, TOP_K = 0.45, 200
IMAGES, ROUNDS = 8, 15
REFERENCE_MS = {"encode": 96.1, "sparse": 21.7}
DENSE_REFERENCE_S = 47.9
REFERENCE_PER_YARDSTICK = {"encode": 1.13, "sparse": 1.14}


# The yardstick. Boxes are `xyxy`, in float64.


def plain_iou(boxes: Array, others: Array) -> Array:
    """Overlap (...) of boxes (..., 4) with others (..., 4), broadcast."""
    low = np.maximum(boxes[..., :2], others[..., :2])
    size = np.maximum(np.minimum(boxes[..., 2:], others[..., 2:]) - low, 0)
    shared = size[..., 0] * size[..., 1]
    areas = [(part[..., 2] - part[..., 0]) * (part[..., 3] - part[..., 1]) for part in (boxes, others)]
    return np.asarray(shared / (areas[0] + areas[1] - shared))


def plain_centers(boxes: Array) -> Array:
    """``cxcywh`` of ``xyxy``."""
    return np.concatenate(((boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]), axis=-1)


def plain_corners(boxes: Array) -> Array:
    """``xyxy`` of ``cxcywh``."""
    half = boxes[..., 2:] / 2
    return np.concatenate((boxes[..., :2] - half, boxes[..., :2] + half), axis=-1)


def plain_encode(anchors: Array, images: list[tuple[Array, NDArray[np.int64]]], classes: int) -> Array:
    """Targets (B, N, 1 + C + 4), one-hot class and offsets, of images' boxes ``xyxy`` and labels."""
    targets = np.zeros((len(images), len(anchors), 1 + classes + 4))
    targets[..., 0] = 1
    targets[..., -4:] = anchors
    one_hot = np.eye(1 + classes)
    corners = plain_corners(anchors)
    for target, (boxes, labels) in zip(targets, images, strict=True):
        rows = np.concatenate((one_hot[labels], plain_centers(boxes)), axis=1)
        overlap = plain_iou(boxes[:, None], corners[None])
        left = overlap.copy()
        for _ in range(len(boxes)):
            columns = left.argmax(axis=1)
            number = left[np.arange(len(boxes)), columns].argmax()
            target[columns[number]] = rows[number]
            left[number], left[:, columns[number]], overlap[:, columns[number]] = 0, 0, 0
        numbers = overlap.argmax(axis=0)
        positive = np.flatnonzero(overlap[numbers, np.arange(len(anchors))] >= 0.5)
        target[positive] = rows[numbers[positive]]
        overlap[:, positive] = 0
        target[overlap.max(axis=0) >= 0.5, 0] = 0
    targets[..., -4:-2] = (targets[..., -4:-2] - anchors[:, :2]) / anchors[:, 2:] / VARIANCES[:2]
    targets[..., -2:] = np.log(targets[..., -2:] / anchors[:, 2:]) / VARIANCES[2:]
    return targets


def plain_suppress(scores: Array, boxes: Array) -> list[tuple[float, ...]]:
    """Scores and boxes that survive the greedy suppression, best first."""
    left = np.concatenate((scores[:, None], boxes), axis=1)
    kept = []
    while len(left):
        best = left[:, 0].argmax()
        kept.append(tuple(left[best]))
        box = left[best, 1:]
        left = np.delete(left, best, axis=0)
        left = left[plain_iou(left[:, 1:], box) <= IOU]
    return kept


def plain_decode(anchors: Array, scores: Array, offsets: Array, threshold: float) -> list[list[tuple[float, ...]]]:
    """Detections of each image as (score, box, class), best first, suppressed class by class."""
    center = anchors[:, :2] + offsets[..., :2] * VARIANCES[:2] * anchors[:, 2:]
    size = anchors[:, 2:] * np.exp(offsets[..., 2:] * VARIANCES[2:])
    boxes = plain_corners(np.concatenate((center, size), axis=-1))
    images = []
    for image_scores, image_boxes in zip(scores, boxes, strict=True):
        found: list[tuple[float, ...]] = []
        for label in range(1, scores.shape[-1]):
            over = image_scores[:, label] > threshold
            found += [(*row, label) for row in plain_suppress(image_scores[over, label], image_boxes[over])]
        images.append(sorted(found, key=lambda row: -row[0])[:TOP_K])
    return images


# Inputs


def sparse_outputs(anchors: Array, objects: Array) -> tuple[Array, Array]:
    """Scores (B, N, 2) and offsets of a trained detector with one class: 420 scores an image over 0.01.

    Args:
        anchors: (N, 4) ``cxcywh``.
        objects: (B, G, 4) ``xyxy``: anchors score high where they overlap one, and point to it.
    """
    random = np.random.default_rng(0)
    logits = random.normal(-9.5, 1.6, (len(objects), len(anchors)))
    offsets = random.normal(0.0, 0.5, (*logits.shape, 4))
    for i, boxes in enumerate(objects):
        overlap = plain_iou(boxes[:, None], plain_corners(anchors)[None])
        best, number = overlap.max(axis=0), overlap.argmax(axis=0)
        near = best > 0.3
        logits[i, near] = random.normal(20 * (best[near] - 0.62), 1.0)
        targets = plain_centers(boxes[number[near]])
        offsets[i, near, :2] += (targets[:, :2] - anchors[near, :2]) / anchors[near, 2:] / VARIANCES[:2]
        offsets[i, near, 2:] += np.log(targets[:, 2:] / anchors[near, 2:]) / VARIANCES[2:]
    foreground = 1 / (1 + np.exp(-logits))
    return np.stack((1 - foreground, foreground), axis=-1), offsets


def dense_outputs(count: int, classes: int) -> tuple[Array, Array]:
    """The worst case: scores (B, N, 1 + C), softmax of N(0, 2), and offsets N(0, 1); half of all scores over 0.01."""
    random = np.random.default_rng(5)
    odds = np.exp(2 * random.standard_normal((IMAGES, count, 1 + classes)))
    return odds / odds.sum(axis=-1, keepdims=True), random.standard_normal((IMAGES, count, 4))


# Measuring


def medians(works: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median processor time of each in ms, in turn; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            times[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def check(condition: bool, what: str) -> None:
    """Stops a comparison of two that do not do the same.

    Raises:
        RuntimeError: they differ.
    """
    if not condition:
        raise RuntimeError(f"the package and the yardstick differ in their {what}: their times cannot be compared")


def same_detections(ours: list[list[tuple[float, ...]]], theirs: list[list[tuple[float, ...]]]) -> bool:
    """Whether images have the same detections; scores of the package are in float32."""
    return all(
        len(mine) == len(other) and np.allclose(np.array(mine), np.array(other), rtol=1e-4, atol=1e-2)
        for mine, other in zip(ours, theirs, strict=True)
    )


def rows(decoder: DetectionDecoder, scores: Tensor, boxes: Tensor) -> list[list[tuple[float, ...]]]:
    """The package's detections in the yardstick's form."""
    found, _ = decoder(scores, boxes)
    columns = torch.cat((found.scores.unsqueeze(-1), found.boxes, found.labels.unsqueeze(-1)), dim=-1)
    return [[tuple(row) for row in image[mask].tolist()] for image, mask in zip(columns, found.present, strict=True)]


def main() -> None:
    """Measures and prints."""
    torch.set_num_threads(1)  # as NumPy works; threads that wait for each other would count as processor time
    grid = AnchorGrid(SCALES, RATIOS, steps=STEPS).boxes(IMAGE_SIZE, MAP_SIZES)
    plain_anchors, anchors = grid.numpy(), grid.float()
    with np.load(INPUTS) as stored:
        objects = stored["encode_boxes"]
    labels = torch.ones(objects.shape[:2], dtype=torch.int64)
    boxes = torch.from_numpy(objects).float()

    def encode_targets() -> tuple[Tensor, Tensor]:
        matches = match_anchors(anchors, boxes, labels, torch.zeros_like(labels).bool())
        image, anchor = (matches.labels > 0).nonzero(as_tuple=True)
        matched = to_centers(boxes[image, matches.objects[image, anchor]])
        return matches.labels, encode(matched, anchors[anchor], VARIANCES)

    images = [(objects[i], labels[i].numpy()) for i in range(IMAGES)]
    expected = plain_encode(plain_anchors, images, 1)
    positive, offsets = encode_targets()
    both = (positive.numpy() == 1) & (expected[..., 1] == 1)
    # Boxes of whole pixels overlap several anchors equally, and rounding decides which of them is forced.
    check(both.sum() > 0.9 * max(int(positive.sum()), expected[..., 1].sum()), "positive anchors")
    check(np.allclose(offsets.numpy()[both[positive.numpy() == 1]], expected[..., -4:][both], atol=1e-3), "offsets")
    decoder = DetectionDecoder(0.01, IOU, TOP_K)
    sparse = sparse_outputs(plain_anchors, objects)
    scores, raw = (torch.from_numpy(part).float() for part in sparse)
    over = (sparse[0][..., 1] > 0.01).sum() / IMAGES
    found = rows(decoder, scores, decode_boxes(raw, anchors, VARIANCES))
    check(same_detections(found, plain_decode(plain_anchors, *sparse, 0.01)), "detections")
    result = medians(
        {
            "encode": encode_targets,
            "encode, yardstick": lambda: plain_encode(plain_anchors, images, 1),
            "sparse": lambda: decoder(scores, decode_boxes(raw, anchors, VARIANCES)),
            "sparse, yardstick": lambda: plain_decode(plain_anchors, *sparse, 0.01),
        }
    )
    print(
        f"{torch.get_num_threads()} threads, {IMAGES} images, {len(anchors)} anchors, {over:.0f} scores over 0.01 each"
    )
    for name, there in REFERENCE_MS.items():
        ours, plain = result[name], result[f"{name}, yardstick"]
        here = plain * REFERENCE_PER_YARDSTICK[name]
        print(f"{name:8s} {ours:7.1f} ms, yardstick {plain:7.1f} ms, {plain / ours:5.1f} times as long")
        print(f"{'':8s} ssd_keras {there:.1f} ms there, {here:.1f} ms here: {here / ours:.1f} times as long")
    wide, raw = (torch.from_numpy(part).float() for part in dense_outputs(len(anchors), 20))
    ours = medians({"dense": lambda: decoder(wide, decode_boxes(raw, anchors, VARIANCES))}, 5)["dense"]
    slower = result["sparse, yardstick"] * REFERENCE_PER_YARDSTICK["sparse"] / REFERENCE_MS["sparse"]
    print(f"dense    {ours:7.1f} ms")
    print(f"{'':8s} ssd_keras {DENSE_REFERENCE_S:.1f} s there, about {DENSE_REFERENCE_S * slower:.1f} s here")


if __name__ == "__main__":
    main()
