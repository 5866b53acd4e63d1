"""Goes on with a run that ended before its time: ``python -m crossview.train resume=RUN_FOLDER``.

Everything comes from the run folder, its config and ``checkpoints/last.ckpt``. Settings that do not change what was
trained so far can be given anew (`CHANGEABLE`) and are kept in the folder's config; others are refused.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]  # OmegaConf's parser raises it

from crossview.checkpoints import read_checkpoint
from crossview.csv_log import forget_after
from crossview.files import try_writing, write_whole
from crossview.launch import last_checkpoint, rank, taken
from crossview.signals import Stopped
from crossview.user_errors import UserError

CHANGEABLE = (
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.log_every_n_steps",
    "data.root",
    "data.num_workers",
    "data.persistent_workers",
    "data.pin_memory",
    "callbacks.compile.mode",
    "matcher.*",
    "test",
)
_STATES = ("loops", "callbacks", "optimizer_states", "lr_schedulers")


def check_new(run_dir: Path) -> None:
    """Checks that a new run does not write over an earlier one.

    Raises:
        UserError: its folder has a checkpoint already.
    """
    if rank() == 0 and (reason := taken(run_dir)) is not None:
        raise UserError(reason)


@contextmanager
def resumable(run_dir: Path) -> Iterator[None]:
    """Says how to go on if a signal ends what is done inside."""
    try:
        yield
    except Stopped as end:
        if rank() == 0:
            found = last_checkpoint(run_dir).is_file()
            advice = f"Go on with: python -m crossview.train resume={run_dir}" if found else "It has no checkpoint yet."
            print(f"\n{end.signal.name} ended the run. {advice}", file=sys.stderr)
        raise


def resumed(config: DictConfig, overrides: Sequence[str] | None = None) -> DictConfig:
    """The config of the run in ``config.resume``, made ready to go on.

    Args:
        config: as composed for this command; of it, only the overrides count.
        overrides: ``name=value`` on the command line; None: those that Hydra knows.

    Raises:
        UserError: there is no such run, it cannot go on, or an override would make another run of it.
    """
    run_dir = Path(config.resume)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError("resume: found -m, but one run goes on at a time; leave -m out")
    if overrides is None:
        overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    names = [text.partition("=")[0].lstrip("+~") for text in overrides]
    changes = [name for name in names if name not in ("resume", "run_dir")]
    _check_changes(changes)
    saved = _saved_config(run_dir)
    state = _state(run_dir)
    _check_writable(run_dir)

    OmegaConf.set_struct(saved, False)
    for name in changes:
        OmegaConf.update(saved, name, OmegaConf.select(config, name))
    if changes and rank() == 0:
        write_whole(run_dir / ".hydra" / "config.yaml", OmegaConf.to_yaml(saved))
    # What the run started from has done its work, and may be gone.
    saved.resume, saved.run_dir, saved.ckpt, saved.init.weights = str(run_dir), str(run_dir), None, None
    if "weights" in saved.model.backbone:
        saved.model.backbone.weights = None
    OmegaConf.set_struct(saved, True)
    if rank() == 0:
        last = state["callbacks"]["LastCheckpoint"]
        forget_after(run_dir / "metrics.csv", last["log_step"], last["validation_is_due"])
    return saved


def _check_changes(names: Sequence[str]) -> None:
    """Refuses overrides of what was trained so far.

    Raises:
        UserError: names them, and those that are possible.
    """
    refused = [name for name in names if not any(fnmatchcase(name, pattern) for pattern in CHANGEABLE)]
    if refused:
        raise UserError(
            f"resume: {', '.join(refused)} cannot change in the middle of a run; what can: {', '.join(CHANGEABLE)}. "
            "For anything else start a new run from its weights with ckpt=RUN_FOLDER/checkpoints/last.ckpt"
        )


def _saved_config(run_dir: Path) -> DictConfig:
    if not run_dir.is_dir():
        raise UserError(f"resume: found no folder {run_dir}; expected a run folder such as outputs/train/DATE_TIME")
    path = run_dir / ".hydra" / "config.yaml"
    if not path.is_file():
        raise UserError(f"resume: {run_dir} has no .hydra/config.yaml, so it is not the folder of a run")
    try:
        config = OmegaConf.load(path)
        if isinstance(config, DictConfig) and all(key in config for key in ("model", "data", "trainer", "init")):
            return config
    except (YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise UserError(f"resume: {path} is damaged: {error}") from error
    raise UserError(f"resume: {path} is not the config of a training")


def _state(run_dir: Path) -> dict[str, Any]:
    """The content of the last checkpoint."""
    path = last_checkpoint(run_dir)
    if not path.is_file():
        raise UserError(
            f"resume: {run_dir} has no checkpoints/last.ckpt: the run ended before the first one, or was told to keep "
            "none (callbacks=none). Start it anew"
        )
    state = read_checkpoint(path, "resume")
    missing = [key for key in _STATES if key not in state]
    if missing or "LastCheckpoint" not in state["callbacks"]:
        raise UserError(
            f"resume: {path} holds weights, but not the state of a run ({', '.join(missing) or 'LastCheckpoint'} "
            f"missing). Start a new run from them with ckpt={path}"
        )
    return state


def _check_writable(run_dir: Path) -> None:
    """Tries it out before anything is computed.

    Raises:
        UserError: nothing can be written there.
    """
    for folder in (run_dir, last_checkpoint(run_dir).parent):
        try:
            try_writing(folder)
        except OSError as error:
            raise UserError(f"resume: {folder} cannot be written: {error.strerror or error}") from error
