"""What average precision costs: ``python -m benchmarks.run average_precision``.

The package's average precision of VOC against torchmetrics' with both of its backends, at the same overlap of 0.5, on
the same detections. They do not do the same: torchmetrics also counts by size of the objects and for three numbers of
detections, and interpolates at 101 points; what the package sums up exactly it compares at the same overlap.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from benchmarks.benchmark import Benchmark, Ratio, Report, Row
from benchmarks.machine import installed
from benchmarks.scenes import scenes
from benchmarks.timing import PROCESSOR, Work, in_turn, one_thread
from crossview.evaluation.records import scene_detections, scene_objects
from crossview.metrics.average_precision import DetectionAP

OURS = "crossview"
BACKENDS: dict[str, Literal["pycocotools", "faster_coco_eval"]] = {
    "torchmetrics, pycocotools": "pycocotools",
    "torchmetrics, faster-coco-eval": "faster_coco_eval",
}


def _tensors(**arrays: NDArray[Any]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@dataclass(frozen=True)
class AveragePrecisionSpeed(Benchmark):
    """The benchmark.

    Attributes:
        views: that are scored.
        boxes: detections and objects of a view.
        batch: views of an update.
    """

    name: ClassVar[str] = "average_precision"
    title: ClassVar[str] = "Average precision"
    rounds: int = 5
    views: int = 2000
    boxes: int = 20
    batch: int = 8

    @classmethod
    def tiny(cls) -> "AveragePrecisionSpeed":
        """Some views, once."""
        return cls(1, 8, 5)

    def measure(self) -> Report:
        """Measures, on one thread by the processor's clock."""
        pairs = list(scenes(self.views // 2, self.boxes))
        batches = [pairs[first : first + self.batch // 2] for first in range(0, len(pairs), self.batch // 2)]
        detections = [scene_detections(batch) for batch in batches]
        objects = [scene_objects(batch) for batch in batches]
        values: dict[str, float] = {}

        def ours() -> None:
            metric, first = DetectionAP(), 0
            for said, truth in zip(detections, objects, strict=True):
                keys = torch.arange(first, first + said.scores[..., 0].numel()).reshape(said.scores.shape[:2])
                metric.update(keys, said, truth)
                first += keys.numel()
            values[OURS] = float(metric.compute()["ap50"])

        def theirs(name: str) -> Work:
            views = [view for scene in pairs for view in scene.views]
            said = [_tensors(boxes=v.boxes, scores=v.scores, labels=v.labels) for v in (v.detections for v in views)]
            truth = [_tensors(boxes=v.boxes, labels=v.labels) for v in (v.objects for v in views)]

            def work() -> None:
                metric = MeanAveragePrecision(iou_thresholds=[0.5], backend=BACKENDS[name])
                metric.warn_on_many_detections = False
                for first in range(0, len(said), self.batch):
                    metric.update(said[first : first + self.batch], truth[first : first + self.batch])
                values[name] = float(metric.compute()["map"])

            return work

        there = [name for name, backend in BACKENDS.items() if installed(backend.replace("_", "-"))]
        with one_thread():
            times = in_turn({OURS: ours, **{name: theirs(name) for name in there}}, self.rounds, PROCESSOR)
        report = Report()
        report.add_times(times)
        report.rows += [Row(f"average precision, {name}", value, "") for name, value in values.items()]
        report.ratios = [Ratio(f"{name} / crossview", times[name].median / times[OURS].median) for name in there]
        report.notes.append(f"{self.views} views, {self.boxes} boxes each, one thread, processor time")
        if len(there) < len(BACKENDS):
            report.notes.append("pycocotools is not installed (`make bench` installs it): its row is left out")
        return report
