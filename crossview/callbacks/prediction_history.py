"""How the predictions for a few validation pairs or views change from epoch to epoch, as pictures in the run folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from crossview.base_module import DetectorModule
from crossview.data.batch import PairBatch, ViewBatch
from crossview.detector.detections import ViewDetections
from crossview.dual.placed import PlacedDetections
from crossview.geometry.boxes import pairwise_iou
from crossview.geometry.camera import period
from crossview.module import CrossViewModule
from crossview.pictures import Layer, ViewPicture, draw_views
from crossview.single_module import SingleViewModule


class PredictionHistory(pl.Callback):
    """After every validation, a picture of each of some validation pairs, or views where the task is single views."""

    def __init__(self, folder: str, pairs: int = 2, min_score: float = 0.4, most: int = 40) -> None:
        """Takes the settings.

        Args:
            folder: where the pictures go.
            pairs: how many pairs or views are drawn, spread evenly over the validation set.
            min_score: detections below this score are not drawn.
            most: detections of a view that are drawn, the best ones; an untrained network makes hundreds.
        """
        self.folder = Path(folder)
        self.pairs = pairs
        self.min_score = min_score
        self.most = most

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the pairs with the network as it is now."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        loaders = trainer.val_dataloaders
        if loaders is None or not isinstance(pl_module, DetectorModule):
            return
        dataset = loaders.dataset
        self.folder.mkdir(parents=True, exist_ok=True)
        for index in np.unique(np.linspace(0, len(dataset) - 1, min(self.pairs, len(dataset))).astype(int)):
            batch = loaders.collate_fn([dataset[int(index)]])
            kind = batch.title(0).partition(" ")[0]
            stem = f"step_{trainer.global_step:06d}_{kind}_{index:04d}"
            title = f"epoch {trainer.current_epoch}, step {trainer.global_step}, scores of at least {self.min_score}"
            figure = draw_views(describe(pl_module, batch, self.min_score, self.most), title)
            figure.savefig(self.folder / f"{stem}.jpg", dpi=110)


@torch.no_grad()
def describe(
    module: pl.LightningModule, batch: PairBatch | ViewBatch, min_score: float, most: int
) -> Sequence[ViewPicture]:
    """Runs the network on a batch of one and says what is to be drawn; settings as in `PredictionHistory`.

    Raises:
        TypeError: the batch is not of the module's task.
    """
    on_device = module.transfer_batch_to_device(batch, module.device, 0)
    if isinstance(module, CrossViewModule) and isinstance(batch, PairBatch):
        return _describe_pair(module, batch, on_device, min_score, most)
    if isinstance(module, SingleViewModule) and isinstance(batch, ViewBatch):
        return [_describe_view(module, batch, on_device, min_score, most)]
    raise TypeError(f"{type(module).__name__} cannot draw a {type(batch).__name__}")


def _drawn(detections: ViewDetections, min_score: float, most: int) -> Tensor:
    """Which detections (..., D) are drawn."""
    drawn = detections.present & (detections.scores >= min_score)
    return drawn & (detections.scores.argsort(dim=-1, descending=True).argsort(dim=-1) < most)


def _describe_view(
    module: SingleViewModule, batch: ViewBatch, on_device: ViewBatch, min_score: float, most: int
) -> ViewPicture:
    """A view by itself; colours stand for classes."""
    detections = ViewDetections(*(field[0].cpu() for field in module.detect(on_device, module(on_device))))
    here, present = _drawn(detections, min_score, most), batch.objects.present[0]
    labels = batch.objects.labels[0][present], detections.labels[here]
    names = list(module.hparams["class_names"])
    classes = [names[label - 1] for label in labels[1].tolist()] if len(names) > 1 else None
    return ViewPicture(
        image=batch.images[0].permute(1, 2, 0).numpy(),
        name=batch.names[0],
        period=float(batch.period[0]),
        ground_truth=_layer(batch.objects.boxes[0][present], labels[0], labels[0] > 0),
        detections=_layer(detections.boxes[here], labels[1], labels[1] > 0, detections.scores[here])._replace(
            classes=classes
        ),
    )


def _describe_pair(
    module: CrossViewModule, batch: PairBatch, on_device: PairBatch, min_score: float, most: int
) -> list[ViewPicture]:
    """Both views of a pair; colours stand for identities."""
    detections, placed = module.detect(on_device, module(on_device))
    detections = ViewDetections(*(field.cpu() for field in detections))
    placed = PlacedDetections(*(field.cpu() for field in placed))
    around = period(batch.cameras)[0]
    seen = [_identify(batch, detections, view, float(around[view])) for view in range(2)]
    drawn = _drawn(detections, min_score, most)
    pictures = []
    for view in range(2):
        other = 1 - view
        here, there = drawn[0, view], drawn[0, other] & placed.valid[0, other]
        present = batch.objects.present[0, view]
        objects = [batch.objects.boxes, batch.objects.ids, batch.objects.has_id]
        boxes, ids, has_id = [value[0, view][present] for value in objects]
        pictures.append(
            ViewPicture(
                image=batch.images[0, view].permute(1, 2, 0).numpy(),
                name=batch.names[0][view],
                period=float(around[view]),
                ground_truth=_layer(boxes, ids, has_id),
                detections=_layer(
                    detections.boxes[0, view][here],
                    seen[view][0][here],
                    seen[view][1][here],
                    detections.scores[0, view][here],
                ),
                placed=_layer(
                    placed.boxes[0, other][there],
                    seen[other][0][there],
                    seen[other][1][there],
                    placed.covisibility[0, other][there],
                ),
            )
        )
    return pictures


def _identify(batch: PairBatch, detections: ViewDetections, view: int, around: float) -> tuple[Tensor, Tensor]:
    """Identity (D,), and whether it is known (D,): that of the annotated box that overlaps most, if by half."""
    objects = batch.objects
    overlap = pairwise_iou(detections.boxes[0, view], objects.boxes[0, view], around)
    overlap = overlap * (objects.present & objects.has_id)[0, view]
    best, number = overlap.max(dim=1)
    return objects.ids[0, view][number], best >= 0.5


def _layer(boxes: Tensor, ids: Tensor, has_id: Tensor, values: Tensor | None = None) -> Layer:
    return Layer(boxes.numpy(), ids.numpy(), has_id.numpy(), None if values is None else values.numpy())
