"""Hints for misspelled names on the command line.

Hydra answers an unknown name with the advice to put a ``+`` in front, which would only make it accept a name that
nothing reads. These hints name the most similar key that exists.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf


def run_with_hints(main: Callable[[], Any], config_dir: Path, config_name: str) -> None:
    """Runs a Hydra command; if it fails, adds a hint for every name on the command line that does not exist.

    Args:
        main: decorated by ``hydra.main``.
        config_dir: folder of the configs.
        config_name: the command's config.
    """
    try:
        main()
    except SystemExit as end:
        if end.code:
            for hint in hints(sys.argv[1:], config_dir, config_name):
                print(f"\n{hint}", file=sys.stderr)
        raise


def hints(arguments: Sequence[str], config_dir: Path, config_name: str) -> list[str]:
    """One line for every override of a name that does not exist, as far as there is something to suggest.

    Args:
        arguments: of the command line; only plain ``name=value`` is looked at.
        config_dir: folder of the configs.
        config_name: the command's config.
    """
    overrides = [text.partition("=") for text in arguments if "=" in text and text[0].isalpha()]
    groups = {folder.relative_to(config_dir).as_posix() for folder in config_dir.rglob("*") if folder.is_dir()}
    choices = [f"{name}={value}" for name, _, value in overrides if name in groups and "," not in value]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir), version_base="1.3"):
            config = compose(config_name, overrides=choices)
    except HydraException:  # a choice that does not exist: Hydra's own message lists those that do
        return []
    known = groups | set(_keys(OmegaConf.to_container(config, resolve=False)))
    unknown = [
        name
        for name, _, _ in overrides
        if name not in known and not name.startswith("hydra") and OmegaConf.select(config, name) is None
    ]
    return [f"{name} does not exist; {hint}" for name in unknown if (hint := _suggest(name, known))]


def _keys(config: object, prefix: str = "") -> Iterator[str]:
    """Dotted names of all entries of a plain container, containers too."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield f"{prefix}{key}"
            yield from _keys(value, f"{prefix}{key}.")


def _suggest(name: str, known: Set[str]) -> str:
    """The same name elsewhere (``batch_size``: ``data.batch_size``), else a similar one, else what stands beside it."""
    parent, _, last = name.rpartition(".")
    known = {key for key in known if not key.rpartition(".")[2].startswith("_")}  # nobody types those
    elsewhere = [key for key in sorted(known) if key.rpartition(".")[2] == last]
    beside = [key for key in sorted(known) if key.rpartition(".")[0] == parent]
    similar = (
        get_close_matches(name, elsewhere, n=2, cutoff=0.0)
        or get_close_matches(name, beside, n=1, cutoff=0.8)
        or get_close_matches(name, known, n=1, cutoff=0.8)
    )
    if similar:
        return f"did you mean {' or '.join(similar)}?"
    return f"{parent} has {', '.join(key.rpartition('.')[2] for key in beside)}" if parent and beside else ""
