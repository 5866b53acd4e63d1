"""What a network says about a test set, gathered while Lightning runs it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from crossview.data.batch import Objects, PairBatch, ViewBatch
from crossview.detector.detections import ViewDetections
from crossview.dual.dual_ssd import DualOutput
from crossview.dual.placed import PlacedDetections
from crossview.evaluation.records import Boxes, Scene, Truth, ViewRecord
from crossview.evaluation.spill import Spilled
from crossview.geometry.camera import Camera, period
from crossview.module import CrossViewModule


class CollectScenes(pl.Callback):
    """Gathers the scenes of a test run, on all processes, each once, in order of their numbers.

    Attributes:
        scenes: of the last test run.
    """

    def __init__(self) -> None:
        """Starts without scenes."""
        self.scenes: Spilled[Scene] = Spilled()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forgets those of an earlier run."""
        self.scenes = Spilled()

    @torch.no_grad()
    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401  # what the module's `evaluate_batch` returned
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds a batch."""
        annotations = getattr(getattr(trainer.test_dataloaders, "dataset", None), "views", ())
        if isinstance(batch, PairBatch) and isinstance(pl_module, CrossViewModule):
            found = pair_scenes(pl_module, batch, outputs, annotations)
        elif isinstance(batch, ViewBatch):
            found = view_scenes(batch, outputs, annotations)
        else:
            return
        for scene in found:
            self.scenes.append(scene)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Joins the shares of all processes, which are in memory for that; one process has them in order already."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        shares: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(shares, list(self.scenes))
        found = {scene.number: scene for share in shares for scene in share}
        self.scenes = Spilled(found[number] for number in sorted(found))


class _Described(NamedTuple):
    """Boxes (B, V, K, 4) of views with what the network says, padded; see `crossview.evaluation.records.Boxes`."""

    detections: ViewDetections
    placed: PlacedDetections | None = None
    embeddings: Tensor | None = None

    def of(self, *view: int) -> Boxes:
        """The boxes of one view."""
        present = self.detections.present[view]
        boxes, scores, labels = (field[view][present].cpu().numpy() for field in self.detections[:3])
        count = len(labels)
        nowhere, never = np.zeros((count, 4), np.float32), np.zeros(count, bool)
        if self.placed is None:
            said = (np.full(count, np.nan, np.float32), nowhere, never, nowhere, never)
        else:
            placed, valid, geometry, geometry_valid, covisibility = (
                field[view][present].cpu().numpy() for field in self.placed
            )
            said = (covisibility, placed, valid, geometry, geometry_valid)
        vectors = None if self.embeddings is None else self.embeddings[view][present].half().cpu().numpy()
        return Boxes(boxes, labels, scores, *said, vectors)


def pair_scenes(
    module: CrossViewModule,
    batch: PairBatch,
    found: tuple[DualOutput, ViewDetections, PlacedDetections],
    annotations: Sequence[Any],
) -> list[Scene]:
    """The scenes of a batch of pairs.

    Args:
        module: that looked at it.
        batch: not augmented.
        found: raw outputs, detections, and where those are in the other view.
        annotations: of the data set's views, by their numbers; they know where the frames' origins are on Earth.
    """
    output, detections, placed = found
    annotated = _annotated(batch.objects)
    of_detections, of_objects = _embeddings(module, batch, output, detections)
    seen = _Described(detections, placed, of_detections)
    placed = module.net.place_detections(annotated.boxes, annotated.scores, annotated.present, batch.cameras)
    known = _Described(annotated, placed, of_objects)
    around = period(batch.cameras)
    scenes = []
    for row, names in enumerate(batch.names):
        numbers = batch.view_index[row].tolist()
        views = tuple(
            ViewRecord(
                name=names[view],
                number=numbers[view],
                image=_image_of(annotations, numbers[view]),
                network_size=_network_size(batch.images),
                image_size=_size(batch.panorama_size[row, view]),
                period=float(around[row, view]),
                camera=Camera(*(field[row, view].double().cpu() for field in batch.cameras)),
                detections=seen.of(row, view),
                objects=known.of(row, view),
                truth=_truth(batch.objects, row, view),
            )
            for view in range(2)
        )
        origin = annotations[numbers[0]].position if annotations else (np.nan, np.nan)
        scenes.append(Scene(int(batch.pair_index[row]), (float(origin[0]), float(origin[1])), views))
    return scenes


def _embeddings(
    module: CrossViewModule, batch: PairBatch, output: DualOutput, detections: ViewDetections
) -> tuple[Tensor | None, Tensor | None]:
    """Embeddings (B, 2, K, E) of the detections and of the annotated objects, if the network embeds."""
    if module.net.appearance is None:
        return None, None
    counts = [detections.boxes.shape[2], batch.objects.boxes.shape[2]]
    boxes = torch.cat((detections.boxes, batch.objects.boxes.to(detections.boxes.dtype)), dim=2)
    of_detections, of_objects = torch.split(module.net.embed(output, boxes, batch.cameras), counts, dim=2)
    return of_detections, of_objects


def view_scenes(batch: ViewBatch, detections: ViewDetections, annotations: Sequence[Any]) -> list[Scene]:
    """The scenes of a batch of views by themselves; arguments as in `pair_scenes`."""
    seen, known = _Described(detections), _Described(_annotated(batch.objects))
    scenes = []
    for row, (name, number) in enumerate(zip(batch.names, batch.view_index.tolist(), strict=True)):
        view = ViewRecord(
            name=name,
            number=number,
            image=_image_of(annotations, number),
            network_size=_network_size(batch.images),
            image_size=_size(batch.image_size[row]),
            period=float(batch.period[row]),
            camera=None,
            detections=seen.of(row),
            objects=known.of(row),
            truth=_truth(batch.objects, row),
        )
        scenes.append(Scene(number, (np.nan, np.nan), (view,)))
    return scenes


def _annotated(objects: Objects) -> ViewDetections:
    """The annotated boxes as if they had been detected."""
    return ViewDetections(objects.boxes, objects.present.to(objects.boxes.dtype), objects.labels, objects.present)


def _truth(objects: Objects, *view: int) -> Truth:
    present = objects.present[view]
    ids, has_id, difficult, location, has_location = (
        field[view][present].cpu().numpy()
        for field in (objects.ids, objects.has_id, objects.difficult, objects.location, objects.has_location)
    )
    return Truth(ids, has_id, difficult, location.astype(np.float64), has_location)


def _image_of(annotations: Sequence[Any], number: int) -> str:
    return str(annotations[number].image) if annotations else ""


def _network_size(images: Tensor) -> tuple[int, int]:
    return int(images.shape[-1]), int(images.shape[-2])


def _size(size: Tensor) -> tuple[int, int]:
    return int(size[0]), int(size[1])
