"""The network of two views: one detector for both (or one each), and the projection between them.

Convention:
    B pairs, N anchors, views in the order (1, 2) along dimension 1. Where the boxes of a view are in the other one is
    worked out for those boxes that somebody asks about: for all anchors in the losses, else for detections.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crossview.detector.band import Band
from crossview.detector.decode import DetectionDecoder, decode_boxes
from crossview.detector.detections import ViewDetections
from crossview.detector.ssd import SSD, SSDOutput
from crossview.dual.appearance import AppearanceHead
from crossview.dual.head import Placement, ProjectionHead
from crossview.dual.placed import PlacedDetections
from crossview.geometry.camera import Camera, period


class DualOutput(NamedTuple):
    """What the detectors say about a batch of pairs.

    Attributes:
        logits: (B, 2, N, 1 + C) class scores before the softmax.
        offsets: (B, 2, N, 4) box offsets with regard to the anchors.
        boxes: (B, 2, N, 4) decoded boxes, ``xyxy`` pixels of their own view.
        maps: the two finest feature maps (B, 2, C, h, w), for the appearance of objects.
    """

    logits: Tensor
    offsets: Tensor
    boxes: Tensor
    maps: tuple[Tensor, ...] = ()

    @property
    def objectness(self) -> Tensor:
        """Probability (B, 2, N) that a box holds an object of any class."""
        return 1.0 - self.logits.softmax(dim=-1)[..., 0]


class DualSSD(nn.Module):
    """Dual SSD: detects in both views and places boxes of one view in the other."""

    def __init__(
        self,
        detector: SSD,
        projection: ProjectionHead,
        share_weights: bool = True,
        appearance: AppearanceHead | None = None,
    ) -> None:
        """Takes one detector, which serves view 1, and view 2 too if the weights are shared.

        Args:
            detector: the single-view network.
            projection: the head that both directions share.
            share_weights: one set of weights for both views; False starts a second tower as a copy of the first.
            appearance: what embeds objects; None: objects are not told apart by what they look like.
        """
        super().__init__()
        self.detector = detector
        self.detector_2 = None if share_weights else copy.deepcopy(detector)
        self.projection = projection
        self.appearance = appearance

    def detectors(self) -> list[SSD]:
        """The detector of both views, or that of view 1 and that of view 2."""
        return [self.detector] if self.detector_2 is None else [self.detector, self.detector_2]

    @property
    def anchors(self) -> Tensor:
        """Anchors (N, 4) ``cxcywh`` pixels, the same for both views."""
        return self.detector.anchors

    def _detect(self, images: Tensor, band: Band | None) -> SSDOutput:
        """Raw outputs of images (B, 2, 3, H, W), each field with leading shape (B, 2), in single precision."""
        if self.detector_2 is None:
            both = _single_precision(self.detector(images.flatten(0, 1), band))
            fields = [torch.unflatten(field, 0, images.shape[:2]) for field in both]
        else:
            outputs = [self.detector(images[:, 0], band), self.detector_2(images[:, 1], band)]
            pairs = zip(*(_single_precision(output) for output in outputs), strict=True)
            fields = [torch.stack(pair, dim=1) for pair in pairs]
        return SSDOutput(fields[0], fields[1], tuple(fields[2:]))

    def forward(self, images: Tensor, band: Band | None = None) -> DualOutput:
        """Raw outputs for images (B, 2, 3, H, W), RGB in 0..255.

        Whatever precision the detectors run in, all that follows them is computed in single precision. With a band, the
        detectors see it only.
        """
        detected = self._detect(images, band)
        with torch.autocast(images.device.type, enabled=False):
            boxes = decode_boxes(detected.offsets, self.anchors, self.detector.variances)
        return DualOutput(detected.logits, detected.offsets, boxes, detected.maps)

    def place(self, boxes: Tensor, score: Tensor, cameras: Camera) -> tuple[Placement, Placement]:
        """The boxes of view 1 in view 2 (``1_to_2``), and those of view 2 in view 1 (``2_to_1``).

        Args:
            boxes: (B, 2, K, 4) ``xyxy`` pixels of the views.
            score: (B, 2, K) probability that a box holds an object.
            cameras: (B, 2).
        """
        first, second = cameras.view(0), cameras.view(1)
        with torch.autocast(boxes.device.type, enabled=False):
            return (
                self.projection(first, second, boxes[:, 0], score[:, 0]),
                self.projection(second, first, boxes[:, 1], score[:, 1]),
            )

    def place_detections(self, boxes: Tensor, score: Tensor, present: Tensor, cameras: Camera) -> PlacedDetections:
        """Where boxes are in the other view, as a row each.

        Args:
            boxes: (B, 2, K, 4) ``xyxy`` pixels of the views.
            score: (B, 2, K) probability that a box holds an object.
            present: (B, 2, K) bool, False on padding.
            cameras: (B, 2).
        """
        fields = (torch.stack(both, dim=1) for both in zip(*self.place(boxes, score, cameras), strict=True))
        placed, valid, geometry, geometry_valid, covisibility = fields
        return PlacedDetections(placed, valid & present, geometry, geometry_valid & present, covisibility.sigmoid())

    def embed(self, output: DualOutput, boxes: Tensor, cameras: Camera) -> Tensor:
        """Embeddings (B, 2, K, E) of boxes (B, 2, K, 4) ``xyxy`` pixels of the views.

        Raises:
            ValueError: the network has no appearance head.
        """
        if self.appearance is None:
            raise ValueError("this network does not embed objects: it was built without an appearance head")
        maps = [features.flatten(0, 1) for features in output.maps]
        around = period(cameras).flatten()
        embedded: Tensor = self.appearance(maps, boxes.flatten(0, 1), self.detector.image_size, around)
        return torch.unflatten(embedded, 0, boxes.shape[:2])

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
        found, anchors = decoder(scores, boxes, period(cameras).flatten())
        detections = ViewDetections(*(torch.unflatten(field, 0, pairs) for field in found))
        objectness = 1.0 - torch.unflatten(scores[..., 0].gather(1, anchors), 0, pairs)
        return detections, self.place_detections(detections.boxes, objectness, detections.present, cameras)


def _single_precision(output: SSDOutput) -> list[Tensor]:
    """Logits, offsets and maps, which a detector in mixed precision gives as 16-bit floats."""
    return [field.float() for field in (output.logits, output.offsets, *output.maps)]
