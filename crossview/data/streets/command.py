"""Runs a rendering as a command: signals end it cleanly, errors become one line and an exit code.

``python -m crossview.data.streets.command JSON`` is how `ensure_sample` renders in a process of its own; people use
``python -m crossview.data.streets``.
"""

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from crossview.data.streets.dataset import render_dataset
from crossview.data.streets.settings import StreetSettings


def run(values: Mapping[str, Any]) -> None:
    """Renders a data set and prints its folder last.

    Args:
        values: ``out``, ``workers`` and the fields of `StreetSettings`.

    Raises:
        SystemExit: it did not work; the message says why and what to do, and nothing was left behind.
    """
    settings = dict(values)
    out, workers = settings.pop("out"), settings.pop("workers", None)
    if not out:
        sys.exit(
            "out is not set: name the folder to make, for example python -m crossview.data.streets out=data/streets"
        )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        checked = StreetSettings.from_mapping(settings)
        folder = render_dataset(Path(out), checked, workers)
    except (ValueError, OSError) as error:
        sys.exit(f"No data set was rendered: {error}")
    except KeyboardInterrupt:
        sys.exit("Interrupted: no data set was rendered, nothing was left behind")
    print(f"Data set of {checked.streets} streets: {folder}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Starts to clean up at the first signal and lets no other disturb that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
