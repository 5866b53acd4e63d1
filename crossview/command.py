"""What the commands share. Heavy imports wait until a job really starts, so that ``--help`` answers at once."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

CONFIG_DIR = Path(__file__).resolve().parents[1] / "conf"


def run_job(name: str, config: DictConfig) -> Any:  # noqa: ANN401  # whatever the job returns
    """Runs a function of `crossview.run` and returns what it returns; an error of the user ends the program.

    Args:
        name: of the function.
        config: of the job.
    """
    job = getattr(importlib.import_module("crossview.run"), name)
    from crossview.user_errors import UserError

    try:
        return job(config)
    except UserError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN or "HYDRA_FULL_ERROR" in os.environ:
            raise  # one failed job must not end the others; and who asks for the traceback gets it
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
