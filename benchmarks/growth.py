"""How time and memory grow with the number of views: ``python -m benchmarks.run growth``.

Parsing synthetic annotations, without a cache and again with it; the metrics of a validation, which keeps nothing of
the views; and all metrics of an evaluation, which has all of them in a temporary file (detections with COCO's mean,
placing, matching with refined poses, geolocation) and spreads the matching over all cores. Every size is measured once,
in a process of its own, whose peak of memory counts; only reading from the cache, which takes some hundredths of a
second for the smallest one, several times. Growth is compared with n log n: 1 is exactly that, a linear algorithm has
0.8 from 10k to 100k.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import ClassVar

import torch

from benchmarks.benchmark import Benchmark, Ratio, Report, Row
from benchmarks.scenes import DISTINCT, scenes
from benchmarks.timing import PROCESSOR, WALL, Result, in_new_process, one_thread, seconds, with_peak
from crossview.data.voc import PairedVocReader
from crossview.dual.matching import PairMatcher
from crossview.evaluation.baselines import BASELINES, MatchSettings
from crossview.evaluation.records import scene_detections, scene_objects, scene_periods, scene_placed
from crossview.evaluation.scoring import score
from crossview.evaluation.spill import Spilled
from crossview.metrics.average_precision import DetectionAP
from crossview.metrics.cross_view import CrossViewMetrics
from tests.data.make_voc import ANNOTATIONS, IMAGES, ORIGIN, Item, View, write_sets, write_view

GIGABYTE = 2**30
TIMES_AGAIN = 5
MOST_SECONDS, MOST_MEMORY = 20.0, 2.0  # of an evaluation of 10,000 views; of 100,000 views, GB
TIMED_VIEWS, HELD_VIEWS = 10_000, 100_000


def write_annotations(root: Path, views: int, objects: int) -> None:
    """So many annotated views, each in a pair with the next one.

    Args:
        root: of the data set.
        views: number of files; their images are copies of one.
        objects: in each view.
    """
    write_view(root, "view_0", View())
    image = (root / IMAGES / "view_0.jpg").read_bytes()
    for number in range(views):
        name, items = f"view_{number}", []
        for place in range(objects):
            left, top = 1 + (7 * place + number) % 40, 1 + (3 * place) % 10
            location = f"{ORIGIN[0] + 1e-5 * place},{ORIGIN[1] + 1e-5 * number % 1e-4}"
            items.append(Item((left, top, left + 10, top + 12), id=objects * (number // 2) + place, location=location))
        (root / IMAGES / f"{name}.jpg").write_bytes(image)
        (root / ANNOTATIONS / f"{name}.xml").write_text(View(items).xml(name))
    write_sets(root, {"train": [(f"view_{number}", f"view_{number + 1}") for number in range(0, views - 1, 2)]})


def parse(root: str, cache: str) -> tuple[float, float]:
    """Seconds that reading all annotations takes, and the median of reading them again from the cache."""
    reader = PairedVocReader(root, ("tree",), cache_dir=cache, progress=False)
    first, *again = (seconds(lambda: reader.read("train"), PROCESSOR) for _ in range(1 + TIMES_AGAIN))
    return first, median(again)


def evaluate(views: int, boxes: int) -> float:
    """Seconds that all metrics of so many views take on all cores."""
    pairs = Spilled(scenes(views // 2, boxes))
    return seconds(lambda: score(pairs, PairMatcher(), MatchSettings(), BASELINES[-1:]), WALL)


def validate(views: int, boxes: int) -> float:
    """Seconds that the metrics of a validation take, which sees the views in batches and keeps none of them."""
    distinct = list(scenes(min(views // 2, DISTINCT), boxes))
    objects, detections, periods = scene_objects(distinct), scene_detections(distinct), scene_periods(distinct)
    placed = scene_placed([(scene.views[0].detections, scene.views[1].detections) for scene in distinct])
    detected, cross = DetectionAP(), CrossViewMetrics()

    def work() -> None:
        for first in range(0, views // 2, len(distinct)):
            pairs = torch.arange(first, first + len(distinct))
            detected.update(2 * pairs[:, None] + torch.arange(2), detections, objects, periods)
            cross.update(pairs, detections, placed, objects, periods)
        detected.compute()
        cross.compute()

    with one_thread():
        return seconds(work, PROCESSOR)


@dataclass(frozen=True)
class Growth(Benchmark):
    """The benchmark.

    Attributes:
        views: sizes, rising.
        objects: annotated in each view that is parsed.
        boxes: annotated, and detected, in each view that is evaluated.
        separate: whether each size has a process of its own; else the peaks of memory are those of all before.
    """

    name: ClassVar[str] = "growth"
    title: ClassVar[str] = "Growth"
    rounds: int = 1
    views: Sequence[int] = (1000, TIMED_VIEWS, HELD_VIEWS)
    objects: int = 5
    boxes: int = 20
    separate: bool = True

    @classmethod
    def tiny(cls) -> "Growth":
        """Some views, in this process."""
        return cls(1, (4, 8), 2, 3, separate=False)

    def measure(self) -> Report:
        """Measures."""
        report = Report()
        self._parsing(report)
        self._evaluation(report)
        report.notes.append(
            f"{self.objects} objects a view parsed, {self.boxes} objects and as many detections a view evaluated; "
            "parsing and validation on one thread by the processor's clock, evaluation on all cores by the clock on "
            "the wall; memory is the peak of the process that has the result, with PyTorch in it"
        )
        return report

    def _run(self, work: Callable[..., Result], *arguments: object) -> tuple[Result, int]:
        return in_new_process(work, *arguments) if self.separate else with_peak(work, *arguments)

    def _parsing(self, report: Report) -> None:
        taken: list[tuple[float, float]] = []
        for count in self.views:
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder) / "data"
                write_annotations(root, count, self.objects)
                spent, peak = self._run(parse, str(root), f"{folder}/cache")
            taken.append(spent)
            report.rows += _rows("parsing", count, spent[0], peak)
            report.rows.append(Row(f"parsing again, from the cache, {count} views", spent[1], "s", count=TIMES_AGAIN))
        first, again = zip(*taken, strict=True)
        report.ratios += self._growth("parsing", first) + self._growth("parsing again", again)

    def _evaluation(self, report: Report) -> None:
        taken: dict[str, list[float]] = {"validation": [], "evaluation": []}
        for count in self.views:
            for (name, values), work in zip(taken.items(), (validate, evaluate), strict=True):
                spent, peak = self._run(work, count, self.boxes)
                values.append(spent)
                report.rows += _rows(name, count, spent, peak)
                if count == TIMED_VIEWS:
                    report.ratios.append(Ratio(f"{name} of {count} views", spent, MOST_SECONDS, False, "s"))
                if count == HELD_VIEWS:
                    held = Ratio(f"memory of the {name} of {count} views", peak / GIGABYTE, MOST_MEMORY, False, "GB")
                    report.ratios.append(held)
        for name, values in taken.items():
            report.ratios += self._growth(name, values)

    def _growth(self, name: str, taken: Sequence[float]) -> list[Ratio]:
        """From each size to the next, as a multiple of n log n."""
        ratios = []
        for i in range(1, len(taken)):
            small, large = self.views[i - 1], self.views[i]
            expected = large * math.log(large) / (small * math.log(small))
            growth = taken[i] / taken[i - 1] / expected
            ratios.append(Ratio(f"{name}, {small} to {large} views, against n log n", growth, 1.0, at_least=False))
        return ratios


def _rows(name: str, count: int, spent: float, peak: int) -> list[Row]:
    return [
        Row(f"{name}, {count} views", spent, "s"),
        Row(f"{name}, {count} views, memory", peak / GIGABYTE, "GB"),
    ]
