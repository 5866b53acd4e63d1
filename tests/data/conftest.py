"""Keeps the annotation caches of tests away from the user's."""

import pytest


@pytest.fixture(autouse=True)
def own_annotation_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CROSSVIEW_CACHE", str(tmp_path_factory.mktemp("annotation_cache")))
