"""What a training step costs: ``python -m benchmarks.training_step [data.root=DIR] [data.batch_size=4] ...``.

In turn, on the same images in the same process: forward and backward of the bare VGG16 in ``channels_last``, and the
whole training step (both views, four losses, optimizer). Then real batches through the loader: how long the step waits
for them, and the peak memory of the process. Arguments are overrides of the training config.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
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
    images = backbone.preprocessing.apply(batch.images.flatten(0, 1)).contiguous(memory_format=torch.channels_last)

    def work() -> None:
        backbone.zero_grad()
        total: Tensor = sum((features.sum() for features in backbone(images)), start=torch.zeros(()))
        torch.autograd.backward(total)

    return work


def training_step(module: CrossViewModule, optimizer: torch.optim.Optimizer, batch: PairBatch) -> None:
    """Everything that happens between two batches."""
    optimizer.zero_grad()
    total, _ = module.losses(batch, module(batch))
    torch.autograd.backward(total)
    optimizer.step()


def main() -> None:
    """Measures and prints."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", overrides=sys.argv[1:])
    data: PairDataModule = instantiate(config.data)
    data.prepare_data()
    module: CrossViewModule = instantiate(config.model, _recursive_=False, _convert_="all")
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4)
    batches = iter(data.train_dataloader())
    batch = next(batches)
    bare = backbone_pass(module, batch)
    times: dict[str, list[float]] = {"backbone forward + backward": [], "whole training step": []}
    for number in range(ROUNDS + 1):
        pair = (seconds(bare), seconds(lambda: training_step(module, optimizer, batch)))
        if number > 0:  # the first round warms up
            for name, value in zip(times, pair, strict=True):
                times[name].append(value)
    medians = [statistics.median(values) for values in times.values()]
    for name, median in zip(times, medians, strict=True):
        print(f"{name:30s} {median:7.2f} s   (batch of {len(batch.pair_index)} pairs, median of {ROUNDS})")
    print(f"{'ratio':30s} {medians[1] / medians[0]:7.3f}")

    waiting = 0.0
    begin = time.perf_counter()
    for _ in range(ROUNDS):
        asked = time.perf_counter()
        batch = next(batches)
        waiting += time.perf_counter() - asked
        training_step(module, optimizer, batch)
    print(f"{'waiting for the loader':30s} {100 * waiting / (time.perf_counter() - begin):7.2f} % of the time")
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'peak memory of the process':30s} {usage:7.2f} GB")


if __name__ == "__main__":
    main()
