"""A yardstick: encoding targets and decoding detections in plain NumPy, as ssd_keras does.

One image after the other in float64, the dense target array, a greedy loop with one pass over all anchors an object,
suppression that copies what is left of an array once per kept box. Boxes are ``xyxy``.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

VARIANCES = (0.1, 0.1, 0.2, 0.2)
IOU, TOP_K = 0.45, 200


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
