"""What the commands share. Heavy imports wait until a job really starts, so that ``--help`` answers at once."""

import importlib
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from crossview.launch import agreed, console_level, log_name, rank, taken
from crossview.sweeps.devices import refusal

CONFIG_DIR = Path(__file__).resolve().parents[1] / "conf"


def _is_run(folder: str | None) -> bool:
    return folder is not None and (Path(folder) / ".hydra" / "config.yaml").is_file() and os.access(folder, os.W_OK)


def run_folder(resume: str | None, new: str) -> str:
    """Where Hydra puts what a run says: in the folder of the run that goes on, else in a new one.

    A folder that cannot be resumed is left as it is; `crossview.resume` says why.
    """
    return resume if resume is not None and _is_run(resume) else agreed(_claimed(new) if rank() == 0 else new)


@cache
def _claimed(new: str) -> str:
    """A folder of this name that no other run has, made at once: two that start within a second mean the same name."""
    name, number = new, 2
    try:
        Path(new).parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                Path(name).mkdir()
            except FileExistsError:
                name, number = f"{new}_{number}", number + 1
            else:
                return name
    except OSError:  # Hydra will not be able to make it, either, and says so
        return new


def config_folder(resume: str | None) -> str | None:
    """Where Hydra puts the config, inside the run folder; nowhere if it is there already.

    That is, if the run goes on with the one that is there, or if another process of it puts it there.
    """
    return None if _is_run(resume) or rank() > 0 else ".hydra"


class NewRun(Callback):
    """Refuses the folder of an earlier run, before Hydra leaves a config there."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # Hydra's signature
        """Looks at the run folder.

        Raises:
            SystemExit: it has checkpoints; says what to do.
        """
        if config.resume is None and rank() == 0 and (reason := taken(Path(config.hydra.run.dir))) is not None:
            raise SystemExit(reason)


OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
OmegaConf.register_new_resolver("config_folder", config_folder, replace=True)
OmegaConf.register_new_resolver("log_name", log_name, replace=True)
OmegaConf.register_new_resolver("console_level", console_level, replace=True)


def _prefer_own_sweepers() -> None:
    """Lets files in ``conf/hydra/sweeper`` stand for the configs that plugins register under the same names.

    Hydra refuses a file of such a name; without it, ``hydra/sweeper=optuna`` would minimise and keep nothing.
    """
    Plugins.instance()  # the plugins register while it is made, and Hydra makes it only once
    registered = ConfigStore.instance().repo.get("hydra", {}).get("sweeper", {})
    for file in (CONFIG_DIR / "hydra" / "sweeper").glob("*.yaml"):
        registered.pop(file.name, None)


_prefer_own_sweepers()


def run_job(name: str, config: DictConfig) -> Any:  # noqa: ANN401  # whatever the job returns
    """Runs a function of `crossview.run` and returns what it returns; an error of the user ends the program.

    Args:
        name: of the function.
        config: of the job.
    """
    job = getattr(importlib.import_module("crossview.run"), name)
    from crossview.user_errors import UserError

    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        if in_sweep and (reason := refusal(config.trainer)) is not None:
            raise UserError(reason)
        return job(config)
    except UserError as error:
        if in_sweep or "HYDRA_FULL_ERROR" in os.environ:
            raise  # one failed job must not end the others; and who asks for the traceback gets it
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
