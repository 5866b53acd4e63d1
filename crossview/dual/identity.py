"""Which object of one view is which object of the other.

Convention:
    An identity is an int64, compared as such (a float would merge neighbours beyond 2^24); "no identity" is a mask.
    An index into the other view is -1 where there is no counterpart.
"""

import torch
from torch import Tensor
from torch.nn import functional


def find_counterparts(ids_i: Tensor, valid_i: Tensor, ids_j: Tensor, valid_j: Tensor) -> tuple[Tensor, Tensor]:
    """For every object of view i, the object of view j with the same identity.

    Args:
        ids_i: (..., G) int64 identities in view i.
        valid_i: (..., G) bool, False on padding and on objects without an identity.
        ids_j: (..., K) int64 identities in view j.
        valid_j: (..., K) bool.

    Returns:
        The index (..., G) int64 into view j, -1 where there is none, the first where an identity occurs twice; and
        whether there is one (..., G) bool.

    Raises:
        TypeError: if the identities are not int64.
    """
    for name, ids in (("ids_i", ids_i), ("ids_j", ids_j)):
        if ids.dtype != torch.int64:
            raise TypeError(f"{name} must be int64, got {ids.dtype}: other types do not hold every identity exactly")
    same = (ids_i.unsqueeze(-1) == ids_j.unsqueeze(-2)) & valid_i.unsqueeze(-1) & valid_j.unsqueeze(-2)
    # A last column that always agrees: argmax, which takes the first, then falls on it where no object does.
    index = functional.pad(same.to(torch.uint8), (0, 1), value=1).argmax(dim=-1)
    found = index < ids_j.shape[-1]
    return torch.where(found, index, -1), found
