"""Objects out of plain config containers.

Configs name a class or function by ``_target_``; nested entries are built first, ``_partial_: true`` gives a function
that waits for more arguments. A checkpoint carries such containers, so only what an allowed package defines is called,
and interpolations are not resolved: loading somebody else's checkpoint must not run somebody else's code.
"""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

ALLOWED_PACKAGES = ("crossview.", "torch.optim.")
TARGET, PARTIAL = "_target_", "_partial_"


class ConfigError(ValueError):
    """A config that cannot be used; the message begins with the key."""


def build(config: Mapping[str, Any], key: str, **arguments: object) -> Any:  # noqa: ANN401  # whatever the config names
    """Builds what ``config`` describes.

    Args:
        config: plain container with a ``_target_``.
        key: where the container stands in the config, for error messages.
        arguments: further keyword arguments.

    Raises:
        ConfigError: a target is missing, does not exist or is outside of the allowed packages (then nothing at all is
            called), or what it names does not accept its arguments.
    """
    if TARGET not in config:
        raise ConfigError(f"{key}: found keys {sorted(config)}, expected a {TARGET} that names what to build")
    _check_targets(config, key)
    return _build({**config, **arguments}, key)


def _check_targets(config: object, key: str) -> None:
    if isinstance(config, Mapping):
        if TARGET in config:
            _find(config[TARGET], f"{key}.{TARGET}")
        for name, value in config.items():
            _check_targets(value, f"{key}.{name}")
    elif isinstance(config, list | tuple):
        for number, value in enumerate(config):
            _check_targets(value, f"{key}[{number}]")


def _find(target: object, key: str) -> Callable[..., object]:
    """The class or function of that name, if an allowed package defines it (importing it is not enough)."""
    expected = f"expected a class or function of {' or '.join(package + '*' for package in ALLOWED_PACKAGES)}"
    if not isinstance(target, str) or not target.startswith(ALLOWED_PACKAGES):
        raise ConfigError(f"{key}: found {target!r}, {expected}")
    module, _, name = target.rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{key}: found {target!r}, which does not exist ({error}); {expected}") from error
    if not callable(found) or not f"{getattr(found, '__module__', '')}.".startswith(ALLOWED_PACKAGES):
        raise ConfigError(f"{key}: found {target!r}, {expected}")
    return found  # type: ignore[no-any-return]


def _build(config: object, key: str) -> Any:  # noqa: ANN401
    if isinstance(config, list | tuple):
        return [_build(value, f"{key}[{number}]") for number, value in enumerate(config)]
    if not isinstance(config, Mapping):
        return config
    values = {name: _build(value, f"{key}.{name}") for name, value in config.items() if name not in (TARGET, PARTIAL)}
    if TARGET not in config:
        return values
    call = partial(_call, _find(config[TARGET], f"{key}.{TARGET}"), key)
    return partial(call, **values) if config.get(PARTIAL, False) else call(**values)


def _call(target: Callable[..., object], key: str, /, *arguments: object, **values: object) -> object:
    try:
        return target(*arguments, **values)
    except TypeError as error:  # most often an argument that does not exist
        raise ConfigError(f"{key}: {error}") from error
    except ValueError as error:
        if type(error) is not ValueError:  # says itself which file or key it is about
            raise
        raise ConfigError(f"{key}: {error}") from error
