"""The four losses of a batch of pairs, by name.

Convention:
    Terms are returned without their weights; `DualCriterion.total` weighs them. "i_to_j": seen in view i, placed in
    view j.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from crossview.data.batch import Objects
from crossview.detector.loss import LossTerms, Reduce, ssd_loss
from crossview.detector.targets import AnchorMatches, match_anchors
from crossview.dual.dual_ssd import DualOutput
from crossview.dual.identity import find_counterparts
from crossview.dual.loss import cross_loss, cross_targets
from crossview.geometry.boxes import encode, to_centers
from crossview.geometry.camera import Camera, period

TERMS = ("view_1", "view_2", "view_1_to_2", "view_2_to_1")


@dataclass(frozen=True)
class DualCriterion:
    """Settings of the losses.

    Attributes:
        weights: of the four terms in the total.
        alpha: weight of localisation within each term.
        positive_iou: overlap from which an anchor is positive.
        negative_iou: overlap from which an anchor that is not positive is neutral.
        negatives_per_positive: hard negatives kept for each positive anchor of the batch.
        min_negatives: hard negatives an image that are kept at least.
        use_difficult: train on objects marked difficult; False makes the anchors over them neutral.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(TERMS, 1.0))
    alpha: float = 1.0
    positive_iou: float = 0.5
    negative_iou: float = 0.5
    negatives_per_positive: float = 3.0
    min_negatives: int = 4
    use_difficult: bool = False

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: a term is missing or unknown, or a threshold is out of range.
        """
        if set(self.weights) != set(TERMS):
            raise ValueError(f"loss.weights: found {sorted(self.weights)}, expected {list(TERMS)}")
        if not 0 < self.negative_iou <= self.positive_iou <= 1:
            raise ValueError(
                "loss: expected 0 < negative_iou <= positive_iou <= 1, "
                f"found {self.negative_iou} and {self.positive_iou}"
            )

    def match(self, anchors: Tensor, objects: Objects, around: Tensor) -> AnchorMatches:
        """Matches of the anchors to the objects (B, G) of one view, with periods ``around`` (B,)."""
        ignored = objects.difficult & objects.present & (not self.use_difficult)
        labels = objects.labels * objects.present
        return match_anchors(anchors, objects.boxes, labels, ignored, self.positive_iou, self.negative_iou, around)

    def __call__(
        self,
        output: DualOutput,
        objects: Objects,
        cameras: Camera,
        anchors: Tensor,
        variances: Sequence[float],
        reduce: Reduce | None = None,
    ) -> dict[str, LossTerms]:
        """The four terms of a batch.

        Args:
            output: of the network.
            objects: (B, 2, G) ground truth.
            cameras: (B, 2).
            anchors: (N, 4) ``cxcywh`` pixels.
            variances: of the box offsets.
            reduce: mean over the ranks of a scalar tensor; None for one process.
        """
        views = [Objects(*(value[:, i] for value in objects)) for i in range(2)]
        around = period(cameras)
        matches = [self.match(anchors, views[i], around[:, i]) for i in range(2)]
        terms = {}
        for i, name in enumerate(TERMS[:2]):
            positive = matches[i].labels > 0
            image, anchor = positive.nonzero(as_tuple=True)
            boxes = to_centers(views[i].boxes[image, matches[i].objects[image, anchor]])
            targets = encode(boxes, anchors[anchor], variances, around[image, i])
            terms[name] = ssd_loss(
                output.logits[:, i],
                output.offsets[:, i],
                matches[i].labels,
                targets,
                self.negatives_per_positive,
                self.min_negatives,
                reduce,
            )
        for i, name in enumerate(TERMS[2:]):
            j = 1 - i
            has_id = views[i].has_id & views[i].present
            counterparts, found = find_counterparts(
                views[i].ids, has_id, views[j].ids, views[j].has_id & views[j].present
            )
            cross = cross_targets(matches[i], has_id, counterparts, found, views[j].boxes)
            terms[name] = cross_loss(
                output.placements[i],
                cross,
                variances,
                around[:, j],
                self.negatives_per_positive,
                self.min_negatives,
                reduce,
            )
        return terms

    def total(self, terms: Mapping[str, LossTerms]) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each term by its name (classification plus alpha times localisation, unweighted)."""
        values = {name: term.classification + self.alpha * term.localization for name, term in terms.items()}
        weighted = [self.weights[name] * value for name, value in values.items()]
        return sum(weighted[1:], start=weighted[0]), values
