"""Where what can be made anew is kept between runs: parsed annotations, smaller images, the rendered sample."""

import os
import tempfile
from pathlib import Path


def default_cache_dir() -> Path:
    """$CROSSVIEW_CACHE, else $XDG_CACHE_HOME/crossview, else ~/.cache/crossview."""
    if own := os.environ.get("CROSSVIEW_CACHE"):
        return Path(own).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser() / "crossview"
    try:
        return Path.home() / ".cache" / "crossview"
    except RuntimeError:  # a user without a home, as in containers
        return Path(tempfile.gettempdir()) / "crossview"
