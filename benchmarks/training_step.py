"""What a training step costs: ``python -m benchmarks.run training_step``.

The whole step of ``model=ssd300`` (both views, all losses, optimizer) against torchvision's SSD300 with the same
optimizer on the same two images, in their size and in its own (300x300, half of the pixels), and against forward and
backward of the bare backbone, with PyTorch's own convolutions in both orders of memory; the step of
``ssd300`` as most are, on a band of the rows (`crossview.detector.band`); and the step of ``model=ssd300_lite``. All
others see whole images. Then real batches through the loader: for how long the step of ``ssd300`` waits for them.
"""

import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.benchmark import Benchmark, Ratio, Report, Row
from benchmarks.machine import SIDE
from benchmarks.networks import (
    SSD,
    SSDLITE,
    TINY_LITE_OVERRIDES,
    TINY_OVERRIDES,
    built,
    composed,
    torchvision_images,
    torchvision_network,
    torchvision_targets,
)
from benchmarks.pairs import pair_batch
from benchmarks.timing import in_new_process, in_turn, with_kept_memory
from crossview.data.batch import PairBatch
from crossview.data.datamodule import PairDataModule
from crossview.detector.band import Band
from crossview.module import CrossViewModule
from tests.data.make_voc import write_pair_dataset

OURS, LITE = "step of ssd300", "step of ssd300_lite"
IN_BAND = "step of ssd300, on a band of the rows"
THEIRS, SQUASHED = "step of torchvision's SSD300, same size", "step of torchvision's SSD300, its own 300x300"
BARE, BARE_LAST, PRODUCT = "bare VGG16", "bare VGG16, channels_last", "product of matrices"


def our_step(module: CrossViewModule, band: Band | None = None) -> Callable[[PairBatch], None]:
    """Everything that happens between two batches; the detectors look at a band, if one is given."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4)

    def step(batch: PairBatch) -> None:
        optimizer.zero_grad()
        total, _ = module.losses(batch, module(batch, band), band=band)
        torch.autograd.backward(total)
        optimizer.step()

    return step


def middle_band(module: CrossViewModule) -> Band:
    """A band as in a training, around the horizon."""
    choice = module.band_choice
    if choice is None:
        raise ValueError("model.train_band is null: there is no band to measure")
    rows = min(choice.rows, choice.height)
    first = (choice.height - rows) // 2 // choice.stride * choice.stride
    return Band(first, first + rows)


def their_step(network: nn.Module, batch: PairBatch) -> Callable[[], None]:
    """The same of torchvision's, on the same images and boxes."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    images, targets = torchvision_images(batch), torchvision_targets(batch)

    def step() -> None:
        optimizer.zero_grad()
        losses: dict[str, Tensor] = network(images, targets)
        torch.autograd.backward(sum(losses.values(), start=torch.zeros(())))
        optimizer.step()

    return step


def backbone_pass(module: CrossViewModule, batch: PairBatch, memory_format: torch.memory_format) -> Callable[[], None]:
    """Forward and backward of a bare backbone on the batch's images."""
    backbone = module.net.detector.backbone.to(memory_format=memory_format)
    images = backbone.preprocessing.apply(batch.images.flatten(0, 1)).contiguous(memory_format=memory_format)

    def work() -> None:
        backbone.zero_grad()
        torch.autograd.backward(sum((features.sum() for features in backbone(images)), start=torch.zeros(())))

    return work


@dataclass(frozen=True)
class TrainingStep(Benchmark):
    """The benchmark.

    Attributes:
        pairs: of a batch.
        overrides: of the config of ``ssd300``.
        lite_overrides: of the config of ``ssd300_lite``.
        side: of the matrices of the product.
        data_pairs: pairs of a micro data set for the loader; None for the built-in sample.
        peer: of torchvision's networks.
    """

    name: ClassVar[str] = "training_step"
    title: ClassVar[str] = "Training step"
    rounds: int = 7
    pairs: int = 1
    overrides: Sequence[str] = ()
    lite_overrides: Sequence[str] = ()
    side: int = SIDE
    data_pairs: int | None = None
    peer: str = SSD

    @classmethod
    def tiny(cls) -> "TrainingStep":
        """Small networks and images."""
        return cls(1, 1, TINY_OVERRIDES, TINY_LITE_OVERRIDES, side=64, data_pairs=2, peer=SSDLITE)

    def measure(self) -> Report:
        """Measures, in a process of its own: it keeps its memory, as a training on the CPU does, for all alike."""
        report: Report
        report, peak = in_new_process(with_kept_memory, self.compare, torch.get_num_threads())
        report.rows.append(Row("peak memory of the process", peak / 2**30, "GB"))
        return report

    def compare(self) -> Report:
        """Measures all but the memory."""
        full, lite = built("ssd300", self.overrides), built("ssd300_lite", self.lite_overrides)
        direct = built("ssd300", [*self.overrides, "model.backbone.winograd=false"])
        size = full.net.detector.image_size
        batch = pair_batch(self.pairs, size)
        step, quick = our_step(full), our_step(lite)
        in_band = our_step(copy.deepcopy(full), middle_band(full))
        with FlopCounterMode(display=False) as counter:
            our_step(direct)(batch)
        matrix = torch.rand(self.side, self.side)
        times = in_turn(
            {
                OURS: lambda: step(batch),
                IN_BAND: lambda: in_band(batch),
                THEIRS: their_step(torchvision_network(self.peer, size), batch),
                SQUASHED: their_step(torchvision_network(self.peer), batch),
                BARE: backbone_pass(direct, batch, torch.contiguous_format),
                BARE_LAST: backbone_pass(copy.deepcopy(direct), batch, torch.channels_last),
                LITE: lambda: quick(batch),
                PRODUCT: lambda: matrix @ matrix,
            },
            self.rounds,
        )
        report = Report()
        report.add_times(times)
        rate = counter.get_total_flops() / times[OURS].median / 1e9
        peak = 2 * self.side**3 / times[PRODUCT].median / 1e9
        bound = min(times[BARE].median, times[BARE_LAST].median)
        ours = times[OURS].median
        report.rows += [
            Row("operations of a step of ssd300, direct convolutions", counter.get_total_flops() / 1e9, "GFLOP"),
            Row("speed of a step of ssd300", rate, "GFLOP/s"),
            Row("speed of the product", peak, "GFLOP/s"),
            Row("waiting for the loader", 100 * self._waiting(step), "% of the time"),
        ]
        report.ratios = [
            Ratio("torchvision's SSD300 of the same size / ssd300", times[THEIRS].median / ours, 1.35),
            Ratio("torchvision's SSD300 at 300x300 (half of the pixels) / ssd300", times[SQUASHED].median / ours),
            Ratio("ssd300 / bare VGG16 in channels_last", ours / times[BARE_LAST].median, 1.15, at_least=False),
            Ratio("ssd300 / bare VGG16 in the better order", ours / bound, 1.15, at_least=False),
            Ratio("ssd300 / ssd300 on a band of the rows", ours / times[IN_BAND].median),
            Ratio("ssd300 / ssd300_lite", ours / times[LITE].median),
            Ratio("speed of ssd300 / speed of the product", rate / peak),
        ]
        report.notes.append(f"batch of {self.pairs} pair(s) of {size[0]}x{size[1]}, {torch.get_num_threads()} threads")
        return report

    def _waiting(self, step: Callable[[PairBatch], None]) -> float:
        """Share of the time for which the steps wait for batches of the loader."""
        with tempfile.TemporaryDirectory() as folder:
            settings = [*self.overrides, f"data.batch_size={self.pairs}"]
            if self.data_pairs is not None:
                root = write_pair_dataset(Path(folder), pairs=self.data_pairs)
                settings += [f"data.root={root}", "data.num_workers=0", f"data.cache_dir={folder}/cache"]
            data: PairDataModule = instantiate(composed("ssd300", settings).data, _convert_="all")
            data.prepare_data()
            batches = iter(data.train_dataloader())
            next(batches)
            begin, waited = time.perf_counter(), 0.0
            for _ in range(self.rounds):
                asked = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - asked
                step(batch)
            return waited / (time.perf_counter() - begin)
