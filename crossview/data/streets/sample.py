"""The built-in sample: the data set of the default settings, rendered once and kept in the user's cache."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import crossview
from crossview.data.cache_folder import default_cache_dir
from crossview.data.errors import DataError
from crossview.data.locking import locked
from crossview.data.streets.settings import StreetSettings

SAMPLE_STREETS = 26  # enough to train on for a quarter of an hour, rendered in a minute


def ensure_sample(cache_dir: Path | None = None, settings: StreetSettings | None = None) -> Path:
    """The folder of the rendered sample; renders it (about a minute, with a progress bar) unless it is there.

    Safe when several processes ask at once: one renders, the others wait for it.

    Args:
        cache_dir: Where samples are kept; None: `default_cache_dir`.
        settings: What to render; None: `SAMPLE_STREETS` streets, the rest as by default. Other settings get
            another folder.

    Raises:
        DataError: the folder cannot be made, or the rendering failed; its message stands above on standard error.
    """
    settings = settings or StreetSettings(streets=SAMPLE_STREETS)
    cache = (cache_dir or default_cache_dir()).expanduser().absolute()
    target = cache / f"streets-{settings.digest()}"
    if target.is_dir():
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{cache}, for the built-in sample, cannot be made ({error.strerror or error}); set CROSSVIEW_CACHE to a "
            "folder that can be written, or data.root to data of your own"
        ) from error
    with locked(cache / f".streets-{settings.digest()}.lock"):
        # Whoever held the lock before has most likely rendered it; the folder appears by one rename, so it is complete.
        if not target.is_dir():
            note = f"Rendering the built-in sample of {settings.streets} streets, once, into {target}"
            print(note, file=sys.stderr, flush=True)
            _render(target, settings)
    return target


def _render(target: Path, settings: StreetSettings) -> None:
    """Renders in a fresh process: workers do not import what the caller has loaded, no script needs a main guard."""
    source = str(Path(crossview.__file__).resolve().parent.parent)
    path = os.pathsep.join(entry for entry in (source, os.environ.get("PYTHONPATH", "")) if entry)
    values = json.dumps({"out": str(target), **asdict(settings)})
    command = [sys.executable, "-m", "crossview.data.streets.command", values]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL)
    try:
        process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if not target.is_dir():
        raise DataError(
            f"rendering the built-in sample into {target} ended with exit code {process.returncode}; its message "
            "stands above. Set CROSSVIEW_CACHE to a folder with 300 MB of free space, or data.root to data of your own"
        )
