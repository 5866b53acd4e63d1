"""Objects out of plain config containers.

Configs name a class or function by ``_target_``; nested entries are built first, ``_partial_: true`` gives a function
that waits for more arguments. A checkpoint carries such containers, so a target outside of the allowed packages is
refused: loading somebody else's checkpoint must not run somebody else's code.
"""

from collections.abc import Mapping
from typing import Any

from hydra.utils import instantiate

ALLOWED_PACKAGES = ("crossview.", "torch.optim.")


def _check_targets(config: object, key: str) -> None:
    if isinstance(config, Mapping):
        target = config.get("_target_")
        if target is not None and not str(target).startswith(ALLOWED_PACKAGES):
            raise ValueError(
                f"{key}._target_: found {target!r}, expected a name in one of {', '.join(ALLOWED_PACKAGES)}"
            )
        for name, value in config.items():
            _check_targets(value, f"{key}.{name}")
    elif isinstance(config, list | tuple):
        for number, value in enumerate(config):
            _check_targets(value, f"{key}[{number}]")


def build(config: Mapping[str, Any], key: str, **arguments: object) -> Any:  # noqa: ANN401  # whatever the config names
    """Builds what ``config`` describes.

    Args:
        config: plain container with a ``_target_``.
        key: where the container stands in the config, for error messages.
        arguments: further keyword arguments.

    Raises:
        ValueError: a target is missing, or outside of the allowed packages.
    """
    if "_target_" not in config:
        raise ValueError(f"{key}: found keys {sorted(config)}, expected a _target_ that names what to build")
    _check_targets(config, key)
    return instantiate(dict(config), _convert_="all", **arguments)
