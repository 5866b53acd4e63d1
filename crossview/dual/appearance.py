"""What objects look like, as unit vectors: the same object in two views should give nearly the same vector.

Convention:
    B pairs, K boxes, E numbers of an embedding. Boxes are ``xyxy`` pixels of the network's image; in a whole panorama
    they may cross the seam. An embedding has length 1, so that the product of two is their cosine.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import roi_align

from crossview.data.batch import Objects
from crossview.detector.loss import LossTerms
from crossview.detector.ranks import ALONE, Ranks
from crossview.geometry.camera import seam

FIRST_TEMPERATURE = 0.1


class AppearanceHead(nn.Module):
    """Embeds boxes: RoIAlign (He et al. 2017, "Mask R-CNN", section 3) over two feature maps, then two linear layers.

    Two maps, because objects of all sizes are to be embedded: the finer one shows small ones, the coarser one more of
    what is around them.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        dimensions: int = 128,
        channels: int = 64,
        grid: Sequence[int] = (6, 4),
        hidden: int = 256,
    ) -> None:
        """Builds the head.

        Args:
            in_channels: channels of the two feature maps.
            dimensions: E.
            channels: to which each map is reduced before boxes are cut out.
            grid: rows and columns that a box is divided into; trees are higher than wide.
            hidden: width of the hidden layer.

        Raises:
            ValueError: a number is not positive.
        """
        super().__init__()
        if min(dimensions, channels, hidden, *grid) < 1:
            raise ValueError("appearance: dimensions, channels, grid and hidden must be 1 or more")
        self.grid = (int(grid[0]), int(grid[1]))
        self.reductions = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        features = len(self.reductions) * channels * self.grid[0] * self.grid[1]
        self.hidden = nn.Linear(features, hidden)
        self.output = nn.Linear(hidden, dimensions)
        # Learned as a logarithm, so that it stays positive (Radford et al. 2021, "CLIP", section 2.3).
        self.log_scale = nn.Parameter(torch.tensor(-math.log(FIRST_TEMPERATURE)))

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, image_size: tuple[int, int], period: Tensor) -> Tensor:
        """Embeddings (V, K, E) of boxes in V views.

        Args:
            maps: the feature maps (V, C, h, w).
            boxes: (V, K, 4) ``xyxy`` pixels of the network's image.
            image_size: its height and width.
            period: (V,) pixels in 360 degrees; where it is the image width, boxes reach around the seam.
        """
        pieces = [
            self._cut(reduction(features), boxes, image_size, period)
            for reduction, features in zip(self.reductions, maps, strict=True)
        ]
        flat = torch.cat(pieces, dim=1).flatten(1)
        vectors = self.output(functional.relu(self.hidden(flat)))
        return torch.unflatten(functional.normalize(vectors, dim=-1), 0, boxes.shape[:2])

    def _cut(self, features: Tensor, boxes: Tensor, image_size: tuple[int, int], period: Tensor) -> Tensor:
        """Pieces (V K, C, rows, columns) of features (V, C, h, w)."""
        height, width = image_size
        scale = boxes.new_tensor([features.shape[3] / width, features.shape[2] / height] * 2)
        closed = seam(period, width).isfinite()
        turns = torch.where(closed[:, None], torch.floor(boxes[..., 0] / width), torch.zeros_like(boxes[..., 0]))
        inside = boxes - (turns * width).unsqueeze(-1) * boxes.new_tensor([1.0, 0.0, 1.0, 0.0])
        # Columns from the left edge continue what is beyond the right edge; of an ordinary image, its last column does.
        beyond = torch.where(closed[:, None, None, None], features, features[..., -1:])
        around = torch.cat((features, beyond), dim=-1)
        pieces: Tensor = roi_align(around, list((inside * scale).to(features.dtype)), self.grid, aligned=True)
        return pieces

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits (..., K, L) of embeddings (..., K, E) and (..., L, E): cosines divided by the temperature."""
        return first @ second.transpose(-1, -2) * self.log_scale.exp()


def jittered(boxes: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Boxes (..., 4) ``xyxy`` moved and resized at random by up to ``share`` of their sides, as detections are."""
    draw = torch.rand(boxes.shape, generator=generator, device=boxes.device, dtype=boxes.dtype) * 2 - 1
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes + share * draw * torch.cat((sides, sides), dim=-1)


def contrastive_loss(similarity: Tensor, ids: Tensor, views: Tensor) -> Tensor:
    """How badly each object finds itself in other views, among all objects: cross entropy, mean over the objects.

    Objects that no other view has are there to be told apart from; a batch without any shared object costs nothing.

    Source: Khosla et al. 2020, "Supervised Contrastive Learning", equation 2; here the partners are the same object in
        other views.

    Args:
        similarity: (M, M) logits between all objects.
        ids: (M,) int64 identities, all known.
        views: (M,) int64 view of each object.
    """
    same = ids[:, None] == ids[None, :]
    partner = same & (views[:, None] != views[None, :])
    found = partner.any(dim=1)
    if not bool(found.any()):
        return similarity.sum() * 0.0
    similarity, partner, candidate = similarity[found], partner[found], (partner | ~same)[found]
    log_share = similarity - similarity.masked_fill(~candidate, -math.inf).logsumexp(dim=1, keepdim=True)
    per_object = torch.where(partner, log_share, torch.zeros_like(log_share)).sum(dim=1) / partner.sum(dim=1)
    return -per_object.mean()


def reid_term(
    vectors: Tensor, similarity: Callable[[Tensor, Tensor], Tensor], objects: Objects, ranks: Ranks = ALONE
) -> LossTerms:
    """The loss of a batch's objects with an identity: the same one should look the same in both views.

    Every rank computes that of all ranks' objects: each object is to be told apart from all the others.

    Args:
        vectors: (B, 2, G, E) embeddings of the objects.
        similarity: gives logits (M, M) of embeddings (M, E) and (M, E).
        objects: (B, 2, G).
        ranks: that share the batch.
    """
    known = objects.present & objects.has_id
    view = torch.arange(known.shape[0] * known.shape[1], device=known.device).reshape(*known.shape[:2], 1)
    view = ranks.size * view + ranks.rank  # no two ranks have the same view
    vectors = ranks.gather_rows(vectors[known])
    ids, views = ranks.gather_rows(torch.stack((objects.ids, view.expand_as(known)), dim=-1)[known]).unbind(-1)
    loss = contrastive_loss(similarity(vectors, vectors), ids, views)
    return LossTerms(loss, torch.zeros_like(loss))
