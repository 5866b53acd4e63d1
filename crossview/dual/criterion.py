"""The four losses of a batch of pairs, by name.

Convention:
    "i_to_j": seen in view i, placed in view j. Terms are returned without their weights, see `AnchorCriterion.total`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from crossview.data.batch import Objects
from crossview.detector.band import Band
from crossview.detector.criterion import AnchorCriterion
from crossview.detector.loss import LossTerms
from crossview.detector.ranks import ALONE, Ranks
from crossview.dual.dual_ssd import DualOutput
from crossview.dual.head import Placement
from crossview.dual.identity import find_counterparts
from crossview.dual.loss import cross_loss, cross_targets
from crossview.geometry.camera import Camera, period, seam

TERMS = ("view_1", "view_2", "view_1_to_2", "view_2_to_1")
REID = "reid"  # the optional fifth term: the same object should look the same in both views


@dataclass(frozen=True)
class DualCriterion(AnchorCriterion):
    """Settings of the losses; those of `AnchorCriterion` hold for all four.

    An object that is difficult in the other view only is a target there, with its box as annotated.

    Attributes:
        weights: of the four terms in the total, and of ``reid`` (1 if it is left out).
        box_jitter: by how much of their sides boxes are off where they are embedded, at most.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(TERMS, 1.0))
    box_jitter: float = 0.1

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: a term is missing or unknown, or a threshold is out of range.
        """
        super().__post_init__()
        if set(self.weights) - {REID} != set(TERMS):
            raise ValueError(f"loss.weights: found {sorted(self.weights)}, expected {[*TERMS, REID]}")

    def weight(self, name: str) -> float:
        """Weight of a term in the total."""
        return self.weights.get(name, 1.0)

    def __call__(
        self,
        output: DualOutput,
        placements: tuple[Placement, Placement],
        objects: Objects,
        cameras: Camera,
        anchors: Tensor,
        variances: Sequence[float],
        image_width: int,
        ranks: Ranks = ALONE,
        band: Band | None = None,
    ) -> dict[str, LossTerms]:
        """The four terms of a batch.

        Args:
            output: of the network.
            placements: of all of its boxes: of view 1 in view 2 and of view 2 in view 1.
            objects: (B, 2, G) ground truth.
            cameras: (B, 2).
            anchors: (N, 4) ``cxcywh`` pixels.
            variances: of the box offsets.
            image_width: of the network's images, pixels.
            ranks: that share the batch.
            band: that the network has seen; None: whole images.
        """
        views = [Objects(*(value[:, i] for value in objects)) for i in range(2)]
        # On a larger canvas there is nothing of a panorama beside it, so anchors are matched within the image. A placed
        # box means a direction of the camera, whose error goes the short way around in any image.
        periods = period(cameras)
        around = seam(periods, image_width)
        matches = [self.match(anchors, views[i], around[:, i], band) for i in range(2)]
        terms = {}
        for i, name in enumerate(TERMS[:2]):
            terms[name] = self.view_term(
                output.logits[:, i],
                output.offsets[:, i],
                matches[i],
                views[i],
                anchors,
                variances,
                around[:, i],
                ranks,
            )
        for i, name in enumerate(TERMS[2:]):
            j = 1 - i
            has_id = views[i].has_id & views[i].present
            counterparts, found = find_counterparts(
                views[i].ids, has_id, views[j].ids, views[j].has_id & views[j].present
            )
            cross = cross_targets(matches[i], has_id, counterparts, found, views[j].boxes)
            terms[name] = cross_loss(
                placements[i],
                cross,
                variances,
                periods[:, j],
                self.negatives_per_positive,
                self.min_negatives,
                ranks,
            )
        return terms
