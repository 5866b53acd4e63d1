"""Trains, then tests the best checkpoint: ``python -m crossview.train model=ssd300 data=pasadena``."""

import hydra
from omegaconf import DictConfig

from crossview.command import CONFIG_DIR, run_job
from crossview.spelling import run_with_hints


@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="train")
def main(config: DictConfig) -> float | None:
    """Runs one job and returns the monitored metric, which a sweep optimises."""
    best: float | None = run_job("train", config)
    return best


if __name__ == "__main__":
    run_with_hints(main, CONFIG_DIR, "train")
