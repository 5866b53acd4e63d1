"""What encoding targets and decoding detections cost: ``python -m benchmarks.run encode_decode``.

The package against what torchvision's SSD does for it, and against a yardstick that does the same in plain NumPy as
ssd_keras does (`benchmarks.plain_ssd`). The figures of ssd_keras were measured on another machine. A transcription of
its arithmetic was also timed beside the yardstick, in turn in one process on a busy machine: `REFERENCE_PER_YARDSTICK`,
the ratio of the two, turns the yardstick's time into what ssd_keras would take here and now. The dense worst case is
not run; its 47.9 s are scaled like the sparse one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.ops import box_iou

from benchmarks.benchmark import Benchmark, Ratio, Report, Row
from benchmarks.networks import SSDLITE, torchvision_network
from benchmarks.plain_ssd import (
    IOU,
    TOP_K,
    VARIANCES,
    Array,
    plain_centers,
    plain_corners,
    plain_decode,
    plain_encode,
    plain_iou,
)
from benchmarks.timing import PROCESSOR, in_turn, one_thread
from crossview.detector.anchors import AnchorGrid
from crossview.detector.decode import DetectionDecoder, decode_boxes
from crossview.detector.targets import match_anchors
from crossview.geometry.boxes import encode, to_centers

INPUTS = Path(__file__).parents[1] / "tests" / "golden" / "speed_inputs.npz"
IMAGE_SIZE = (300, 600)
MAP_SIZES = [(38, 75), (19, 38), (10, 19), (5, 10), (3, 8), (1, 6)]
RATIOS = [[1, 2, 0.5], *([[1, 2, 0.5, 3, 1 / 3]] * 3), [1, 2, 0.5], [1, 2, 0.5]]
SCALES = (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05)
STEPS = (8, 16, 32, 64, 100, 300)
REFERENCE_MS = {"encode": 96.1, "decode": 21.7}
DENSE_REFERENCE_S = 47.9
REFERENCE_PER_YARDSTICK = {"encode": 1.13, "decode": 1.14}


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


def dense_outputs(images: int, count: int, classes: int) -> tuple[Array, Array]:
    """The worst case: scores (B, N, 1 + C), softmax of N(0, 2), and offsets N(0, 1); half of all scores over 0.01."""
    random = np.random.default_rng(5)
    odds = np.exp(2 * random.standard_normal((images, count, 1 + classes)))
    return odds / odds.sum(axis=-1, keepdims=True), random.standard_normal((images, count, 4))


# Torchvision's pieces


def their_encode(anchors: Tensor, boxes: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    """Labels (B, N) and offsets of the positive anchors, as torchvision's SSD makes them of boxes (B, G, 4)."""
    matcher, coder = SSDMatcher(0.5), BoxCoder(weights=tuple(1 / value for value in VARIANCES))
    corners = torch.from_numpy(plain_corners(anchors.double().numpy())).float()

    def work() -> tuple[Tensor, Tensor]:
        labels, offsets = [], []
        for image in boxes:
            matched = matcher(box_iou(image, corners))
            rows = (matched >= 0).nonzero().squeeze(1)
            labels.append((matched >= 0).long())
            offsets.append(coder.encode_single(image[matched[rows]], corners[rows]))
        return torch.stack(labels), torch.cat(offsets)

    return work


def their_decode(anchors: Tensor, scores: Tensor, offsets: Tensor) -> Callable[[], list[dict[str, Tensor]]]:
    """Detections as torchvision's SSD makes them, with our thresholds and all candidates, of its raw outputs."""
    network = torchvision_network(SSDLITE)  # any SSD: only its decoding is used
    network.score_thresh, network.nms_thresh, network.detections_per_img = 0.01, IOU, TOP_K  # type: ignore[assignment]
    network.topk_candidates = len(anchors)  # type: ignore[assignment]
    network.box_coder = BoxCoder(weights=tuple(1 / value for value in VARIANCES))
    corners = torch.from_numpy(plain_corners(anchors.double().numpy())).float()
    outputs = {"bbox_regression": offsets, "cls_logits": scores.log()}
    anchors_of_images, sizes = [corners] * len(scores), [IMAGE_SIZE] * len(scores)
    return lambda: network.postprocess_detections(outputs, anchors_of_images, sizes)  # type: ignore[operator]


# Ours


def our_encode(anchors: Tensor, boxes: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    """Labels (B, N) and offsets of the positive anchors of boxes (B, G, 4)."""
    labels = torch.ones(boxes.shape[:2], dtype=torch.int64)

    def work() -> tuple[Tensor, Tensor]:
        matches = match_anchors(anchors, boxes, labels, torch.zeros_like(labels).bool())
        image, anchor = (matches.labels > 0).nonzero(as_tuple=True)
        matched = to_centers(boxes[image, matches.objects[image, anchor]])
        return matches.labels, encode(matched, anchors[anchor], VARIANCES)

    return work


def check(condition: bool, what: str) -> None:
    """Stops a comparison of two that do not do the same.

    Raises:
        RuntimeError: they differ.
    """
    if not condition:
        raise RuntimeError(f"the package and the yardstick differ in their {what}: their times cannot be compared")


def check_encoding(ours: tuple[Tensor, Tensor], expected: Array) -> None:
    """Compares labels and offsets of positive anchors with the yardstick's targets (B, N, 2 + 4)."""
    labels, offsets = ours
    both = (labels.numpy() == 1) & (expected[..., 1] == 1)
    # Boxes of whole pixels overlap several anchors equally, and rounding decides which of them is forced.
    check(both.sum() > 0.9 * max(int(labels.sum()), expected[..., 1].sum()), "positive anchors")
    check(np.allclose(offsets.numpy()[both[labels.numpy() == 1]], expected[..., -4:][both], atol=1e-3), "offsets")


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


@dataclass(frozen=True)
class EncodeDecode(Benchmark):
    """The benchmark.

    Attributes:
        images: of a batch, 8 at most.
        dense_rounds: how often the worst case is measured.
    """

    name: ClassVar[str] = "encode_decode"
    title: ClassVar[str] = "Encoding and decoding"
    rounds: int = 15
    images: int = 8
    dense_rounds: int = 3

    @classmethod
    def tiny(cls) -> "EncodeDecode":
        """One image, once."""
        return cls(1, 1, 1)

    def measure(self) -> Report:
        """Measures, on one thread by the processor's clock."""
        grid = AnchorGrid(SCALES, RATIOS, steps=STEPS).boxes(IMAGE_SIZE, MAP_SIZES)
        plain_anchors, anchors = grid.numpy(), grid.float()
        with np.load(INPUTS) as stored:
            objects = stored["encode_boxes"][: self.images]
        boxes = torch.from_numpy(objects).float()
        images = [(image, np.ones(len(image), np.int64)) for image in objects]
        encoder, peer_encoder = our_encode(anchors, boxes), their_encode(anchors, boxes)
        check_encoding(encoder(), plain_encode(plain_anchors, images, 1))
        sparse = sparse_outputs(plain_anchors, objects)
        scores, raw = (torch.from_numpy(part).float() for part in sparse)
        decoder = DetectionDecoder(0.01, IOU, TOP_K)
        found = rows(decoder, scores, decode_boxes(raw, anchors, VARIANCES))
        check(same_detections(found, plain_decode(plain_anchors, *sparse, 0.01)), "detections")
        wide, wide_raw = (torch.from_numpy(part).float() for part in dense_outputs(self.images, len(anchors), 20))
        with one_thread():
            times = in_turn(
                {
                    "encode": encoder,
                    "encode, torchvision": peer_encoder,
                    "encode, NumPy": lambda: plain_encode(plain_anchors, images, 1),
                    "decode": lambda: decoder(scores, decode_boxes(raw, anchors, VARIANCES)),
                    "decode, torchvision": their_decode(anchors, scores, raw),
                    "decode, NumPy": lambda: plain_decode(plain_anchors, *sparse, 0.01),
                },
                self.rounds,
                PROCESSOR,
            )
            dense = {
                "decode the worst case (20 classes, half of all scores over 0.01)": lambda: decoder(
                    wide, decode_boxes(wide_raw, anchors, VARIANCES)
                ),
                "decode the worst case, torchvision": their_decode(anchors, wide, wide_raw),
            }
            dense_times = in_turn(dense, self.dense_rounds, PROCESSOR)
        report = Report()
        report.add_times(times | dense_times)
        here = {name: 1000 * times[f"{name}, NumPy"].median * REFERENCE_PER_YARDSTICK[name] for name in REFERENCE_MS}
        share = self.images / 8  # of the batch that the reference was timed on
        slower = here["decode"] / (share * REFERENCE_MS["decode"])
        here["worst case"] = 1000 * DENSE_REFERENCE_S * share * slower
        for name, (ours, theirs) in zip(
            here, (("encode", "encode, torchvision"), ("decode", "decode, torchvision"), tuple(dense)), strict=True
        ):
            own = (times | dense_times)[ours].median
            report.rows.append(Row(f"{name}, ssd_keras re-scaled to this machine", here[name], "ms"))
            report.ratios += [
                Ratio(f"{name}: torchvision / crossview", (times | dense_times)[theirs].median / own),
                Ratio(f"{name}: ssd_keras re-scaled / crossview", here[name] / 1000 / own),
            ]
        over = (sparse[0][..., 1] > 0.01).sum() / self.images
        report.notes.append(
            f"{self.images} images, {len(anchors)} anchors, {over:.0f} scores over 0.01 an image, one thread, "
            "processor time"
        )
        return report
