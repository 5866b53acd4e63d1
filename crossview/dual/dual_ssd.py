"""The network of two views: one detector for both (or one each), and the projection between them.

Convention:
    B pairs, N anchors, views in the order (1, 2) along dimension 1. In `Placement` lists, index 0 is 1_to_2, index 1 is
    2_to_1.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crossview.detector.decode import DetectionDecoder, decode_boxes
from crossview.detector.detections import ViewDetections
from crossview.detector.ssd import SSD
from crossview.dual.head import Placement, ProjectionHead
from crossview.dual.placed import PlacedDetections
from crossview.geometry.camera import Camera, period


class DualOutput(NamedTuple):
    """Everything the network says about a batch of pairs.

    Attributes:
        logits: (B, 2, N, 1 + C) class scores before the softmax.
        offsets: (B, 2, N, 4) box offsets with regard to the anchors.
        boxes: (B, 2, N, 4) decoded boxes, ``xyxy`` pixels of their own view.
        placements: the boxes of view 1 in view 2, and those of view 2 in view 1.
    """

    logits: Tensor
    offsets: Tensor
    boxes: Tensor
    placements: tuple[Placement, Placement]


class DualSSD(nn.Module):
    """Dual SSD: detects in both views and places every anchor's box in the other view."""

    def __init__(self, detector: SSD, projection: ProjectionHead, share_weights: bool = True) -> None:
        """Takes one detector, which serves view 1, and view 2 too if the weights are shared.

        Args:
            detector: the single-view network.
            projection: the head that both directions share.
            share_weights: one set of weights for both views; False starts a second tower as a copy of the first.
        """
        super().__init__()
        self.detector = detector
        self.detector_2 = None if share_weights else copy.deepcopy(detector)
        self.projection = projection

    def detectors(self) -> list[SSD]:
        """The detector of both views, or that of view 1 and that of view 2."""
        return [self.detector] if self.detector_2 is None else [self.detector, self.detector_2]

    @property
    def anchors(self) -> Tensor:
        """Anchors (N, 4) ``cxcywh`` pixels, the same for both views."""
        return self.detector.anchors

    def _detect(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 2, N, 1 + C) and offsets (B, 2, N, 4) of images (B, 2, 3, H, W)."""
        if self.detector_2 is None:
            output = self.detector(images.flatten(0, 1))
            return output.logits.unflatten(0, images.shape[:2]), output.offsets.unflatten(0, images.shape[:2])
        outputs = [self.detector(images[:, 0]), self.detector_2(images[:, 1])]
        return torch.stack([o.logits for o in outputs], dim=1), torch.stack([o.offsets for o in outputs], dim=1)

    def forward(self, images: Tensor, cameras: Camera) -> DualOutput:
        """Raw outputs for images (B, 2, 3, H, W), RGB in 0..255, seen by cameras (B, 2).

        Boxes and geometry are computed in single precision whatever precision the network runs in.
        """
        logits, offsets = self._detect(images)
        with torch.autocast(images.device.type, enabled=False):
            logits, offsets = logits.float(), offsets.float()
            boxes = decode_boxes(offsets, self.anchors, self.detector.variances)
            score = 1.0 - logits.softmax(dim=-1)[..., 0]
            first, second = cameras.view(0), cameras.view(1)
            placements = (
                self.projection(first, second, boxes[:, 0], score[:, 0]),
                self.projection(second, first, boxes[:, 1], score[:, 1]),
            )
        return DualOutput(logits, offsets, boxes, placements)

    def detections(
        self, output: DualOutput, cameras: Camera, decoder: DetectionDecoder
    ) -> tuple[ViewDetections, PlacedDetections]:
        """Detections (B, 2, D) of both views, and where they are in the other view.

        Args:
            output: of `forward`.
            cameras: (B, 2).
            decoder: settings of the non-maximum suppression.
        """
        pairs = output.logits.shape[:2]
        scores, boxes = output.logits.softmax(dim=-1).flatten(0, 1), output.boxes.flatten(0, 1)
        detections, anchors = decoder(scores, boxes, period(cameras).flatten())
        detections = ViewDetections(*(torch.unflatten(field, 0, pairs) for field in detections))
        anchors = torch.unflatten(anchors, 0, pairs)

        def pick(values: tuple[Tensor, Tensor]) -> Tensor:
            stacked = torch.stack(values, dim=1)
            index = anchors if stacked.dim() == 3 else anchors.unsqueeze(-1).expand(-1, -1, -1, stacked.shape[-1])
            return stacked.gather(2, index)

        first, second = output.placements
        valid = pick((first.valid, second.valid)) & detections.present
        placed = PlacedDetections(
            boxes=pick((first.boxes, second.boxes)),
            valid=valid,
            geometry_boxes=pick((first.geometry_boxes, second.geometry_boxes)),
            geometry_valid=valid,
            covisibility=pick((first.covisibility, second.covisibility)).sigmoid(),
        )
        return detections, placed
