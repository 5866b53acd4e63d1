from pathlib import Path

import pytest

from crossview.data.cache_folder import default_cache_dir


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CROSSVIEW_CACHE": "/own", "XDG_CACHE_HOME": "/xdg", "HOME": "/home/me"}, "/own"),
        ({"XDG_CACHE_HOME": "/xdg", "HOME": "/home/me"}, "/xdg/crossview"),
        ({"XDG_CACHE_HOME": "~/xdg", "HOME": "/home/me"}, "/home/me/xdg/crossview"),
        ({"HOME": "/home/me"}, "/home/me/.cache/crossview"),
        ({"CROSSVIEW_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/home/me"}, "/home/me/.cache/crossview"),
        ({"CROSSVIEW_CACHE": "~/own", "HOME": "/home/me"}, "/home/me/own"),
    ],
)
def test_where_caches_are(monkeypatch, variables, expected):
    for name in ("CROSSVIEW_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_cache_dir() == Path(expected)


def test_a_user_without_home_has_a_cache_too(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("CROSSVIEW_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert default_cache_dir().name == "crossview"
