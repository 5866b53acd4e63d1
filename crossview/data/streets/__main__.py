"""``python -m crossview.data.streets out=DIR streets=20 seed=0``: renders a data set of streets."""

import signal
import sys
from pathlib import Path
from types import FrameType

import hydra
from omegaconf import DictConfig, OmegaConf

from crossview.data.streets.dataset import render_dataset
from crossview.data.streets.settings import StreetSettings

CONFIG_DIR = str(Path(__file__).resolve().parents[3] / "conf")


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="streets")
def main(config: DictConfig) -> None:
    """Renders the data set of a config and prints its folder last."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    out, workers = values.pop("out"), values.pop("workers")
    if not out:
        sys.exit("out is not set: name the folder to make, e.g. python -m crossview.data.streets out=data/streets")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        settings = StreetSettings.from_mapping({str(key): value for key, value in values.items()})
        folder = render_dataset(Path(out), settings, workers)
    except (ValueError, FileExistsError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing was left behind")
    print(f"Data set of {settings.streets} streets: {folder}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends as Ctrl-C does, so that the half-written folder is removed."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
