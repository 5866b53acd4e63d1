"""Checkpoints of before there were several projection heads: one class, with or without ``learned``.

Their hyper-parameters name no class, and the last layer of a head that only learned co-visibility had rows for a
correction that was never applied. Both are read here, and nowhere else.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

RESIDUAL, GEOMETRY = "crossview.dual.head.ResidualHead", "crossview.dual.head.GeometryHead"


def with_target(projection: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a projection head, whatever version has saved it."""
    settings = dict(projection)
    if "_target_" in settings:
        return settings
    return {"_target_": RESIDUAL if settings.pop("learned", True) else GEOMETRY, **settings}


def last_rows(head: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Before weights are loaded: the last layer takes the last rows of a longer one, of which co-visibility is one."""
    for name, expected in head.get_submodule("output").named_parameters():
        key = f"{prefix}output.{name}"
        if key in state:
            state[key] = state[key][-len(expected) :]
