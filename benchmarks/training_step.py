"""What a training step costs: ``python -m benchmarks.training_step [data.root=DIR] [data.batch_size=4] ...``.

In turn, on the same images in the same process: forward and backward of the bare VGG16, the whole training step (both
views, all losses, optimizer) of ``model=ssd300``, and that of ``model=ssd300_lite``. Then real batches through the
loader: how long the step of ``ssd300`` waits for them, and the peak memory of the process. Arguments are overrides of
the training config.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from crossview.command import CONFIG_DIR
from crossview.data.batch import PairBatch
from crossview.data.datamodule import PairDataModule
from crossview.module import CrossViewModule

ROUNDS = 7


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def backbone_pass(module: CrossViewModule, batch: PairBatch) -> Callable[[], None]:
    """Forward and backward of the bare backbone on the batch's images."""
    backbone = module.net.detector.backbone
    memory_format = module.net.detector.memory_format
    images = backbone.preprocessing.apply(batch.images.flatten(0, 1)).contiguous(memory_format=memory_format)

    def work() -> None:
        backbone.zero_grad()
        total: Tensor = sum((features.sum() for features in backbone(images)), start=torch.zeros(()))
        torch.autograd.backward(total)

    return work


class Training:
    """A module with its optimizer."""

    def __init__(self, config: DictConfig) -> None:
        """Builds what the config says."""
        self.module: CrossViewModule = instantiate(config.model, _recursive_=False, _convert_="all")
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=1e-4)

    def step(self, batch: PairBatch) -> None:
        """Everything that happens between two batches."""
        self.optimizer.zero_grad()
        total, _ = self.module.losses(batch, self.module(batch))
        torch.autograd.backward(total)
        self.optimizer.step()


def composed(model: str) -> DictConfig:
    """The training config of a model, with the overrides of the command line."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", overrides=[f"model={model}", *sys.argv[1:]])


def medians_in_turn(work: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each piece of work, done in turn; a first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(ROUNDS + 1):
        for name, piece in work.items():
            taken = seconds(piece)
            if number > 0:
                times[name].append(taken)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measures and prints."""
    config = composed("ssd300")
    data: PairDataModule = instantiate(config.data)
    data.prepare_data()
    full, lite = Training(config), Training(composed("ssd300_lite"))
    batches = iter(data.train_dataloader())
    batch = next(batches)
    bare, step, quick = "VGG16 forward + backward", "whole step of ssd300", "whole step of ssd300_lite"
    medians = medians_in_turn(
        {
            bare: backbone_pass(full.module, batch),
            step: lambda: full.step(batch),
            quick: lambda: lite.step(batch),
        }
    )
    for name, median in medians.items():
        print(f"{name:30s} {median:7.2f} s   (batch of {len(batch.pair_index)} pairs, median of {ROUNDS})")
    print(f"{'ssd300 / VGG16':30s} {medians[step] / medians[bare]:7.3f}")
    print(f"{'ssd300 / ssd300_lite':30s} {medians[step] / medians[quick]:7.3f}")

    waiting = 0.0
    begin = time.perf_counter()
    for _ in range(ROUNDS):
        asked = time.perf_counter()
        batch = next(batches)
        waiting += time.perf_counter() - asked
        full.step(batch)
    print(f"{'waiting for the loader':30s} {100 * waiting / (time.perf_counter() - begin):7.2f} % of the time")
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'peak memory of the process':30s} {usage:7.2f} GB")


if __name__ == "__main__":
    main()
