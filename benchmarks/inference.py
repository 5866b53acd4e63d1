"""From decoded panoramas to matched, located detections: ``python -m benchmarks.run inference``.

``ssd300`` and ``ssd300_lite`` on a pair (resize, network, decoding, embeddings, matching with refined poses,
positions) against torchvision's SSD300 and SSDlite on the same two images, which only detect; single pairs, and
batches. All networks have random weights, made as sure of themselves as trained ones (`benchmarks.networks.make_sure`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.augmentation import InMemory, smooth_noise
from benchmarks.benchmark import Benchmark, Ratio, Report
from benchmarks.machine import SIDE
from benchmarks.networks import (
    SSD,
    SSDLITE,
    TINY_LITE_OVERRIDES,
    TINY_OVERRIDES,
    TRAINED,
    Candidates,
    built,
    make_ours_sure,
    make_theirs_sure,
    torchvision_network,
)
from benchmarks.timing import in_new_process, in_turn, with_kept_memory
from crossview.data.annotation import ViewAnnotation
from crossview.data.batch import PairBatch, collate
from crossview.data.pairs import PairDataset
from crossview.dual.matching import PairMatcher
from crossview.evaluation.baselines import BASELINES, MatchSettings, match_scenes
from crossview.evaluation.collect import pair_scenes
from crossview.module import CrossViewModule

POSITIONS = ((34.156992, -118.165118), (34.157060, -118.165060))
REFERENCE_GFLOPS = 330.0  # of the machine for which the goal of pairs a second was written
PRODUCT = "product of matrices"


def data_set(image_size: tuple[int, int], panorama: tuple[int, int]) -> PairDataset:
    """One pair of panoramas (width, height) in memory, without annotated objects."""
    none = np.zeros(0, bool)
    views = [
        ViewAnnotation(
            view=f"view_{number}",
            image=Path(f"view_{number}.jpg"),
            source=Path(f"view_{number}.xml"),
            width=panorama[0],
            height=panorama[1],
            boxes=np.zeros((0, 4)),
            labels=np.zeros(0, np.int64),
            ids=np.zeros(0, np.int64),
            has_id=none,
            difficult=none,
            truncated=none,
            locations=np.zeros((0, 2)),
            has_location=none,
            position=position,
            yaw=0.9 + number,
        )
        for number, position in enumerate(POSITIONS)
    ]
    return PairDataset(views, [(0, 1)], image_size, images=InMemory(smooth_noise(*panorama)))


def our_inference(module: CrossViewModule, pairs: PairDataset, count: int) -> Callable[[], int]:
    """So many times the pair at once, from its pixels to matches with positions; returns the number of matches."""
    matcher, settings = PairMatcher(), MatchSettings()

    @torch.inference_mode()  # as in an evaluation
    def work() -> int:
        batch = collate([pairs[0] for _ in range(count)])
        output = module(batch)
        scenes = pair_scenes(module, batch, (output, *module.detect(batch, output)), pairs.views)
        return sum(len(matched.index_1) for matched in match_scenes(scenes, BASELINES[-1], matcher, settings))

    return work


def their_inference(network: nn.Module, images: Sequence[Tensor]) -> Callable[[], object]:
    """Torchvision's detections of images (3, H, W) uint8."""

    @torch.inference_mode()  # as in an evaluation
    def work() -> object:
        return network([image.float() / 255 for image in images])

    return work


@dataclass(frozen=True)
class Inference(Benchmark):
    """The benchmark.

    Attributes:
        panorama: width and height of the decoded images.
        batch: pairs of a batch.
        overrides: of the config of ``ssd300``.
        lite_overrides: of the config of ``ssd300_lite``.
        candidates: how sure the networks are.
        peer: torchvision's network beside ``ssd300``.
    """

    name: ClassVar[str] = "inference"
    title: ClassVar[str] = "Inference"
    rounds: int = 9
    panorama: tuple[int, int] = (2048, 1024)
    batch: int = 4
    overrides: Sequence[str] = ()
    lite_overrides: Sequence[str] = ()
    candidates: Candidates = TRAINED
    peer: str = SSD

    @classmethod
    def tiny(cls) -> "Inference":
        """Small networks and images."""
        return cls(1, (256, 128), 2, TINY_OVERRIDES, TINY_LITE_OVERRIDES, Candidates(40, 10), SSDLITE)

    def measure(self) -> Report:
        """Measures, in a process of its own: it keeps its memory, as an evaluation on the CPU does, for all alike."""
        report: Report = in_new_process(with_kept_memory, self.compare, torch.get_num_threads())[0]
        return report

    def compare(self) -> Report:
        """Measures in this process."""
        full, lite = built("ssd300", self.overrides).eval(), built("ssd300_lite", self.lite_overrides).eval()
        size = full.net.detector.image_size
        pairs = data_set(size, self.panorama)
        one = collate([pairs[0]])
        pixels = [torch.from_numpy(smooth_noise(*self.panorama)).permute(2, 0, 1)] * 2
        ours = {"ssd300": full, "ssd300_lite": lite}
        theirs = {
            "torchvision's SSD300, same size": torchvision_network(self.peer, size),
            "torchvision's SSD300, its own 300x300": torchvision_network(self.peer),
            "torchvision's SSDlite, same size": torchvision_network(SSDLITE, size),
            "torchvision's SSDlite, its own 320x320": torchvision_network(SSDLITE),
        }
        self._make_sure(ours, theirs, one, pixels)
        matrix = torch.rand(SIDE, SIDE)
        report = Report()
        rates: dict[str, list[float]] = {}
        for count in (1, self.batch):
            work: dict[str, Callable[[], object]] = {
                name: our_inference(module, pairs, count) for name, module in ours.items()
            }
            work |= {name: their_inference(network, pixels * count) for name, network in theirs.items()}
            times = in_turn(work | {PRODUCT: lambda: matrix @ matrix}, self.rounds)
            product = times.pop(PRODUCT).median
            report.add_times(
                {f"{name}, {count} pair{'s' if count > 1 else ''}": taken for name, taken in times.items()}
            )
            for name, taken in times.items():
                rates.setdefault(name, []).append(count / taken.median)
        report.ratios = self._ratios(rates, 2 * SIDE**3 / product / 1e9)
        matches = our_inference(full, pairs, 1)()
        report.notes.append(
            f"panoramas of {self.panorama[0]}x{self.panorama[1]}, {self.candidates.low} scores over 0.01 an image, "
            f"{matches} matches of ssd300, {torch.get_num_threads()} threads"
        )
        return report

    def _make_sure(
        self,
        ours: dict[str, CrossViewModule],
        theirs: dict[str, nn.Module],
        batch: PairBatch,
        pixels: Sequence[Tensor],
    ) -> None:
        for module in ours.values():
            make_ours_sure(module, batch, self.candidates)
        for network in theirs.values():
            make_theirs_sure(network, [image.float() / 255 for image in pixels], self.candidates)
            network.score_thresh = 0.01  # type: ignore[assignment]

    def _ratios(self, rates: dict[str, list[float]], gflops: float) -> list[Ratio]:
        ratios = []
        for place, what in enumerate(("one pair", f"batches of {self.batch} pairs")):
            at = {name: values[place] for name, values in rates.items()}
            full, lite = at["ssd300"], at["ssd300_lite"]
            same, squashed, light, light_own = (at[name] for name in list(rates)[2:])
            ratios += [
                Ratio(f"{what}: ssd300 / torchvision's SSD300 of the same size", full / same, 1.5),
                Ratio(f"{what}: ssd300 / torchvision's SSD300 at 300x300 (half of the pixels)", full / squashed),
                Ratio(f"{what}: ssd300_lite / torchvision's SSDlite of the same size", lite / light),
                Ratio(f"{what}: ssd300_lite / torchvision's SSDlite at 320x320", lite / light_own),
                Ratio(f"{what}: ssd300", full, unit="pairs/s"),
                Ratio(f"{what}: ssd300_lite", lite, 8.0, unit="pairs/s"),
                Ratio(f"{what}: ssd300_lite, scaled to 330 GFLOP/s", lite * REFERENCE_GFLOPS / gflops, unit="pairs/s"),
            ]
        return ratios
