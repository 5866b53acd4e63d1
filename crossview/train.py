"""Trains, then tests the best checkpoint: ``python -m crossview.train model=ssd300 data=pasadena``.

Imports of torch and Lightning wait until a run really starts, so that ``--help`` answers at once.
"""

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from crossview.spelling import run_with_hints

CONFIG_DIR = Path(__file__).resolve().parents[1] / "conf"


@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="train")
def main(config: DictConfig) -> float | None:
    """Runs one job and returns the monitored metric, which a sweep optimises."""
    from crossview.run import UserError, train

    try:
        return train(config)
    except UserError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN or "HYDRA_FULL_ERROR" in os.environ:
            raise  # one failed job must not end the others; and who asks for the traceback gets it
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_with_hints(main, CONFIG_DIR, "train")
