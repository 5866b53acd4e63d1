"""``python -m crossview.data.streets out=DIR streets=20 seed=0``: renders a data set of streets."""

from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from crossview.data.streets.command import run

CONFIG_DIR = str(Path(__file__).resolve().parents[3] / "conf")


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="streets")
def main(config: DictConfig) -> None:
    """Renders the data set of a config."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)  # a config file is a mapping
    run({str(key): value for key, value in values.items()})


if __name__ == "__main__":
    main()
