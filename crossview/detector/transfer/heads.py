"""Re-arranging trained prediction heads: the order of the anchors in a cell, and the classes.

Conventions:
    A head is a convolution with A * V output channels: A anchors a cell, V values an anchor, value v of anchor a in
    channel a * V + v. V is 1 + classes with background first, or 4 with the offsets of centre x, centre y, width and
    height. ssd_keras, ssd.pytorch and torchvision lay their heads out in the same way.

    The anchors of a cell are named by their aspect ratios; ratio 1 stands twice where there are two squares, the
    smaller first. ssd.pytorch and torchvision have 1, 1, 2, 1/2, 3, 1/3; ssd_keras has the order of its config, by
    default that one too, and so has a network here: only a config that lists its ratios otherwise needs a permutation.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Orders of the published networks, by the number of anchors a cell.
PUBLISHED_RATIOS = {4: (1.0, 1.0, 2.0, 1 / 2), 6: (1.0, 1.0, 2.0, 1 / 2, 3.0, 1 / 3)}


def anchor_order(source: Sequence[float], target: Sequence[float]) -> list[int] | None:
    """For each anchor of the target's cell, which one of the source's it is.

    Args:
        source: Aspect ratios of the source's cell.
        target: Aspect ratios of the target's cell.

    Returns:
        Indices into ``source``; equal ratios keep their order. None if the two hold different ratios.
    """
    left = list(range(len(source)))
    order = []
    for ratio in target:
        found = next((index for index in left if math.isclose(source[index], ratio, rel_tol=0.005)), None)
        if found is None:
            return None
        left.remove(found)
        order.append(found)
    return None if left else order


def reordered(head: Tensor, order: Sequence[int]) -> Tensor:
    """The head with its anchors in another order.

    Args:
        head: (A * V, ...) weight or bias.
        order: For each anchor of the result its index in ``head``.
    """
    return _by_anchor(head, len(order))[list(order)].flatten(0, 1)


def sampled(head: Tensor, start: Tensor, classes: Sequence[int | None], anchors: int) -> Tensor:
    """A class head for other classes: background and every class with a source are copied, the others stay.

    Args:
        head: (A * (1 + K), ...) trained weight or bias.
        start: (A * (1 + C), ...) the same of the new network, as it starts.
        classes: For each of the C new classes its index among the K trained ones, None without a source.
        anchors: A.

    Returns:
        Like ``start``. Classes without a source keep their small random weights and zero bias, so that their score
        starts below the trained background's.
    """
    trained = _by_anchor(head, anchors).to(start.dtype)
    result = _by_anchor(start, anchors).clone()
    into = torch.tensor([0, *(1 + mine for mine, theirs in enumerate(classes) if theirs is not None)])
    out_of = torch.tensor([0, *(1 + theirs for theirs in classes if theirs is not None)])
    result[:, into] = trained[:, out_of].to(result.device)
    return result.flatten(0, 1)


def _by_anchor(head: Tensor, anchors: int) -> Tensor:
    """(A * V, ...) as (A, V, ...)."""
    return head.reshape(anchors, -1, *head.shape[1:])
