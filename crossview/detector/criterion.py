"""The loss of single views: matches anchors to objects, encodes the targets, calls the pure functions.

Convention:
    Terms are returned by name and without their weights; `AnchorCriterion.total` weighs them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from crossview.data.batch import Objects
from crossview.detector.band import Band
from crossview.detector.loss import LossTerms, ssd_loss
from crossview.detector.ranks import ALONE, Ranks
from crossview.detector.ssd import SSDOutput
from crossview.detector.targets import NEUTRAL, AnchorMatches, match_anchors
from crossview.geometry.boxes import encode, to_centers


@dataclass(frozen=True)
class AnchorCriterion:
    """Settings of the losses over anchors, and what all tasks do with them.

    Attributes:
        alpha: weight of localisation within each term.
        positive_iou: overlap from which an anchor is positive.
        negative_iou: overlap from which an anchor that is not positive is neutral.
        negatives_per_positive: hard negatives kept for each positive anchor of the batch.
        min_negatives: hard negatives an image that are kept at least.
        use_difficult: train on objects marked difficult; False makes the anchors over them neutral.
    """

    alpha: float = 1.0
    positive_iou: float = 0.5
    negative_iou: float = 0.5
    negatives_per_positive: float = 3.0
    min_negatives: int = 4
    use_difficult: bool = False

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: a threshold is out of range.
        """
        if not 0 < self.negative_iou <= self.positive_iou <= 1:
            raise ValueError(
                "loss: expected 0 < negative_iou <= positive_iou <= 1, "
                f"found {self.negative_iou} and {self.positive_iou}"
            )

    def match(self, anchors: Tensor, objects: Objects, around: Tensor, band: Band | None = None) -> AnchorMatches:
        """Matches of the anchors to the objects (B, G) of one view, with periods ``around`` (B,).

        Background outside the band that the network has seen is neutral.
        """
        ignored = objects.difficult & objects.present & (not self.use_difficult)
        labels = objects.labels * objects.present
        matches = match_anchors(anchors, objects.boxes, labels, ignored, self.positive_iou, self.negative_iou, around)
        if band is None:
            return matches
        unseen = (matches.labels == 0) & ~band.holds(anchors)
        return matches._replace(labels=matches.labels.masked_fill(unseen, NEUTRAL))

    def view_term(
        self,
        logits: Tensor,
        offsets: Tensor,
        matches: AnchorMatches,
        objects: Objects,
        anchors: Tensor,
        variances: Sequence[float],
        around: Tensor,
        ranks: Ranks = ALONE,
    ) -> LossTerms:
        """The SSD loss of B images.

        Args:
            logits: (B, N, 1 + C).
            offsets: (B, N, 4).
            matches: of the anchors to the objects.
            objects: (B, G) ground truth.
            anchors: (N, 4) ``cxcywh`` pixels.
            variances: of the box offsets.
            around: (B,) pixels in 360 degrees, infinite for an ordinary image.
            ranks: that share the batch.
        """
        image, anchor = (matches.labels > 0).nonzero(as_tuple=True)
        boxes = to_centers(objects.boxes[image, matches.objects[image, anchor]])
        targets = encode(boxes, anchors[anchor], variances, around[image])
        return ssd_loss(
            logits, offsets, matches.labels, targets, self.negatives_per_positive, self.min_negatives, ranks
        )

    def total(self, terms: Mapping[str, LossTerms]) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each term by its name (classification plus alpha times localisation, unweighted)."""
        values = {name: term.classification + self.alpha * term.localization for name, term in terms.items()}
        weighted = [self.weight(name) * value for name, value in values.items()]
        return sum(weighted[1:], start=weighted[0]), values

    def weight(self, name: str) -> float:
        """Weight of a term in the total."""
        return 1.0


@dataclass(frozen=True)
class SSDCriterion(AnchorCriterion):
    """The one loss of single views."""

    def __call__(
        self,
        output: SSDOutput,
        objects: Objects,
        anchors: Tensor,
        variances: Sequence[float],
        around: Tensor,
        ranks: Ranks = ALONE,
        band: Band | None = None,
    ) -> dict[str, LossTerms]:
        """The one term of a batch of single images; arguments as in `view_term`, and the band that was looked at."""
        matches = self.match(anchors, objects, around, band)
        term = self.view_term(output.logits, output.offsets, matches, objects, anchors, variances, around, ranks)
        return {"view": term}
