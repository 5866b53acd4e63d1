"""The network of the shape of SSD300 that takes a moment, with everything around it, without a command line."""

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.utils.data import DataLoader

from crossview.command import CONFIG_DIR
from crossview.data.batch import collate
from crossview.module import CrossViewModule
from tests.conftest import TINY


def tiny_config(*overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", overrides=[*TINY, *overrides])


def tiny_module(*overrides) -> CrossViewModule:
    torch.manual_seed(0)
    module: CrossViewModule = instantiate(tiny_config(*overrides).model, _recursive_=False, _convert_="all")
    return module


def data_module(root, *overrides):
    return instantiate(tiny_config(f"data.root={root}", "data/augment=none", *overrides).data, _convert_="all")


def first_batch(root, pairs=2, split="train", overrides=()):
    """The first pairs of a split, without augmentation."""
    dataset = data_module(root, *overrides).dataset(split)
    return collate([dataset[index] for index in range(pairs)])


def loader(*batches):
    """Hands out these batches as they are."""
    return DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]  # a list serves as a data set


def quiet_trainer(**arguments):
    """A trainer that writes and prints nothing."""
    settings = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(**{**settings, "enable_model_summary": False, "max_steps": 1, **arguments})
