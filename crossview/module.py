"""The Lightning shell of the dual SSD: hooks only, the maths lives in the packages below.

Hyper-parameters are plain containers and the network is built in here from them, so that a checkpoint loads with
``weights_only=True`` and ``CrossViewModule.load_from_checkpoint(path)`` needs no arguments.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from crossview.build import build
from crossview.data.batch import PairBatch
from crossview.detector.decode import DetectionDecoder
from crossview.detector.detections import ViewDetections
from crossview.detector.loss import Reduce
from crossview.detector.ssd import SSD
from crossview.dual.criterion import DualCriterion
from crossview.dual.dual_ssd import DualOutput, DualSSD
from crossview.dual.head import ProjectionHead
from crossview.dual.placed import PlacedDetections
from crossview.geometry.camera import period
from crossview.metrics.average_precision import DetectionAP
from crossview.metrics.cross_view import CrossViewMetrics

Config = Mapping[str, Any]


class CrossViewModule(pl.LightningModule):
    """Trains and evaluates the dual SSD with its four losses.

    Logged by name: ``{train,val,test}/loss/{total,view_1,view_2,view_1_to_2,view_2_to_1}``, and at the end of an
    evaluation ``{val,test}/detection/{ap50,voc07_ap}`` and ``{val,test}/cross/{ap50,geometry_ap50,center_px}``.

    The metrics of an evaluation do not depend on its batch size. Its losses do, somewhat: each batch divides by its own
    number of positives and mines its own negatives, and the batches are averaged by their numbers of pairs.
    """

    hparams: Any  # a plain attribute dictionary; Lightning types it as a union of three

    def __init__(
        self,
        class_names: Sequence[str],
        image_size: Sequence[int],
        backbone: Config,
        anchors: Config,
        extra_stages: Sequence[Sequence[int]],
        projection: Config,
        loss: Config,
        decoder: Config,
        optimizer: Config,
        scheduler: Config,
        share_weights: bool = True,
        normalize_first_map: bool = True,
        variances: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
        weight_decay: float = 0.0005,
        projection_lr_factor: float = 1.0,
        channels_last: bool = True,
    ) -> None:
        """Builds network, losses and metrics.

        Args:
            class_names: foreground classes in the order of their labels 1..C.
            image_size: height and width of the network's image in pixels.
            backbone: config of the feature extractor.
            anchors: config of the default boxes.
            extra_stages: layers after the backbone, see `crossview.detector.ssd.ExtraLayers`.
            projection: arguments of `crossview.dual.head.ProjectionHead`.
            loss: config of the criterion.
            decoder: config of the decoding.
            optimizer: config of the optimizer, ``_partial_``.
            scheduler: ``interval`` ("step" or "epoch") and the config ``schedule`` of the learning rate, ``_partial_``.
            share_weights: one set of detector weights for both views, or two.
            normalize_first_map: L2 normalisation of the first feature map.
            variances: of the box offsets.
            weight_decay: L2 on the weights of convolutions and linear layers; biases and norms have none.
            projection_lr_factor: learning rate of the projection head as a multiple of the optimizer's.
            channels_last: memory format of the convolutions, faster on CPUs and on GPUs with tensor cores.
        """
        super().__init__()
        self.save_hyperparameters()
        detector = SSD(
            build(backbone, "model.backbone"),
            len(class_names),
            image_size,
            build(anchors, "model.anchors"),
            extra_stages,
            normalize_first_map,
            variances,
        )
        self.net = DualSSD(
            detector, ProjectionHead(detector.image_size, detector.variances, **projection), share_weights
        )
        if channels_last:
            self.net.to(memory_format=torch.channels_last)
        self.criterion: DualCriterion = build(loss, "model.loss")
        self.decoder: DetectionDecoder = build(decoder, "model.decoder")
        self.random_start = backbone.get("weights") is None
        # The weights file has done its work; a checkpoint must load where that file does not exist.
        self.hparams["backbone"] = {**copy.deepcopy(dict(backbone)), "weights": None}
        self.detection_metrics = DetectionAP()
        self.cross_metrics = CrossViewMetrics()

    def forward(self, batch: PairBatch) -> DualOutput:
        """Raw outputs of a batch of pairs."""
        output: DualOutput = self.net(batch.images, batch.cameras)
        return output

    def detect(self, batch: PairBatch, output: DualOutput) -> tuple[ViewDetections, PlacedDetections]:
        """Detections (B, 2, D) of both views and where they are in the other view."""
        return self.net.detections(output, batch.cameras, self.decoder)

    def losses(
        self, batch: PairBatch, output: DualOutput, reduce: Reduce | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted total and the four terms.

        Args:
            batch: pairs with their objects.
            output: of `forward` for them.
            reduce: mean over the ranks; only for steps that all ranks take together.
        """
        detector = self.net.detector
        terms = self.criterion(
            output, batch.objects, batch.cameras, detector.anchors, detector.variances, reduce=reduce
        )
        return self.criterion.total(terms)

    def _mean_over_ranks(self, value: Tensor) -> Tensor:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return value
        value = value.clone()
        torch.distributed.all_reduce(value)
        return value / torch.distributed.get_world_size()

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """The total loss of a batch."""
        total, terms = self.losses(batch, self(batch), self._mean_over_ranks)
        self.log("train/loss/total", total.detach(), prog_bar=True, batch_size=len(batch.pair_index))
        self.log_dict(
            {f"train/loss/{name}": value.detach() for name, value in terms.items()}, batch_size=len(batch.pair_index)
        )
        self.log("train/lr", float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        return total

    def _evaluate(self, batch: PairBatch, split: str) -> None:
        output = self(batch)
        # Not reduced over the ranks: their shares may differ by a batch, and the one without would never answer.
        total, terms = self.losses(batch, output)
        values = {"total": total, **terms}
        self.log_dict(
            {f"{split}/loss/{name}": value for name, value in values.items()},
            batch_size=len(batch.pair_index),
            on_epoch=True,
            sync_dist=True,
        )
        detections, placed = self.detect(batch, output)
        around = period(batch.cameras)
        self.detection_metrics.update(batch.view_index, detections, batch.objects, around)
        pixel_scale = batch.panorama_size / batch.panorama_size.new_tensor(batch.images.shape[:-3:-1])
        self.cross_metrics.update(batch.pair_index, detections, placed, batch.objects, around, pixel_scale)

    def _log_metrics(self, split: str) -> None:
        for group, metric in (("detection", self.detection_metrics), ("cross", self.cross_metrics)):
            for name, value in metric.compute().items():
                self.log(f"{split}/{group}/{name}", float(value), prog_bar=name == "ap50" and split == "val")
            metric.reset()

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Losses and detections of a batch."""
        self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics of the validation pairs."""
        self._log_metrics("val")

    def test_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Losses and detections of a batch."""
        self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Logs the metrics of the test pairs."""
        self._log_metrics("test")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Weights out of a checkpoint are no random start any more."""
        self.random_start = False

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimizer gets: detector and projection head, each with and without L2."""
        rate, decay = float(self.hparams["optimizer"]["lr"]), float(self.hparams["weight_decay"])
        factors: list[tuple[nn.Module, float]] = [(detector, 1.0) for detector in self.net.detectors()]
        factors.append((self.net.projection, float(self.hparams["projection_lr_factor"])))
        groups: list[dict[str, Any]] = []
        for part, factor in factors:
            trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
            vectors = [parameter for parameter in trained if parameter.dim() <= 1]
            matrices = [parameter for parameter in trained if parameter.dim() > 1]
            groups.append({"params": matrices, "lr": rate * factor, "weight_decay": decay})
            groups.append({"params": vectors, "lr": rate * factor, "weight_decay": 0.0})
        return groups

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimizer with L2 on convolution and linear weights only, and the learning-rate schedule."""
        optimizer = build(self.hparams["optimizer"], "optimizer")(self.parameter_groups())
        settings = self.hparams["scheduler"]
        total_steps = self.trainer.estimated_stepping_batches
        schedule = build(settings["schedule"], "scheduler.schedule")
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": schedule(optimizer, math.inf if total_steps < 0 else total_steps),
                "interval": settings["interval"],
            },
        }
