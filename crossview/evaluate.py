"""All metrics of a checkpoint on a split: ``python -m crossview.evaluate ckpt=RUN/checkpoints/best.ckpt``."""

import hydra
from omegaconf import DictConfig

from crossview.command import CONFIG_DIR, run_job
from crossview.spelling import run_with_hints


@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="evaluate")
def main(config: DictConfig) -> None:
    """Runs one evaluation."""
    run_job("evaluate", config)


if __name__ == "__main__":
    run_with_hints(main, CONFIG_DIR, "evaluate")
