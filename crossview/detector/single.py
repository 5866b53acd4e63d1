"""The detector of one view as a network of its own: the baseline of every comparison between views.

Convention:
    B images, N anchors, D detections (padded).
"""

from torch import Tensor, nn

from crossview.detector.band import Band
from crossview.detector.decode import DetectionDecoder, decode_boxes
from crossview.detector.detections import ViewDetections
from crossview.detector.ssd import SSD, SSDOutput


class SingleSSD(nn.Module):
    """An SSD of single images. The detector has the same name as in the dual network, so weights go both ways."""

    def __init__(self, detector: SSD) -> None:
        """Takes the detector."""
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, band: Band | None = None) -> SSDOutput:
        """Raw outputs, in single precision, for RGB images (B, 3, H, W) in 0..255, or for a band of them."""
        output = self.detector(images, band)
        return SSDOutput(output.logits.float(), output.offsets.float())

    def detections(self, output: SSDOutput, period: Tensor, decoder: DetectionDecoder) -> ViewDetections:
        """Detections (B, D).

        Args:
            output: of `forward`.
            period: (B,) pixels in 360 degrees, infinite for an ordinary image.
            decoder: settings of the non-maximum suppression.
        """
        boxes = decode_boxes(output.offsets, self.detector.anchors, self.detector.variances)
        return decoder(output.logits.softmax(dim=-1), boxes, period)[0]
