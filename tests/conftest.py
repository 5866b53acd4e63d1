"""What all tests share: small data sets, and caches of their own."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.data.make_voc import write_pair_dataset

# Property tests try the same examples in every run: what fails, fails for everybody. More and others:
# --hypothesis-profile=default
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")

# Networks of the shape of each model that take a moment instead of minutes.
SMALL_VGG = ["model.backbone.channels=[4,4,8,8,8]", "model.backbone.fc_channels=16"]
SMALL_MODELS = {
    "ssd300": [*SMALL_VGG, "model.extra_stages=[[4,8,2,1,3],[4,8,2,1,3],[4,8,1,0,3],[4,8,1,0,3]]"],
    "ssd512": [*SMALL_VGG, "model.extra_stages=[[4,8,2,1,3],[4,8,2,1,3],[4,8,2,1,3],[4,8,2,1,3],[4,8,1,1,4]]"],
    # EfficientNet-Lite0 has one size; small images make up for it.
    "ssd300_lite": [
        "data.image_size=[96,192]",
        "model.backbone.pyramid_channels=8",
        "model.extra_stages=[[4,8,2,1,3],[4,8,2,1,3],[4,8,2,1,3]]",
    ],
    "ssd7": ["model.backbone.channels=[4,4,8,8,8,8,4]"],
}
TINY = [*SMALL_MODELS["ssd300"], "data.num_workers=0"]
# Beside TINY: a quarter of the pixels and anchors.
QUICK = ["data.image_size=[150,300]", "model.extra_stages=[[4,8,2,1,3],[4,8,2,1,3],[4,8,2,1,3],[4,8,2,1,3]]"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CROSSVIEW_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def pair_root(tmp_path_factory):
    """A small valid data set: 4 training, 2 validation and 2 test pairs."""
    return write_pair_dataset(tmp_path_factory.mktemp("pairs"), pairs=4)


def command_environment(cache):
    """Environment of a command started as a user would, but of this source tree, whatever is installed."""
    source = str(Path(__file__).resolve().parents[1])
    return {**os.environ, "CROSSVIEW_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": source}


@pytest.fixture
def run_environment(tmp_path):
    """Environment of a command, for one test."""
    return command_environment(tmp_path / "cache")
