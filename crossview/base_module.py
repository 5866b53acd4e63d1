"""What the Lightning shells of both tasks share: the detector, the optimizer, the logging. Hooks only, no maths.

Hyper-parameters are plain containers and the network is built in here from them, so that a checkpoint loads with
``weights_only=True`` and ``load_from_checkpoint(path)`` needs no arguments.
"""

import copy
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanMetric

from crossview.build import ConfigError, build
from crossview.detector.band import Band, BandChoice
from crossview.detector.decode import DetectionDecoder
from crossview.detector.memory_format import fast_memory_format
from crossview.detector.ranks import ALONE, Ranks, current_ranks
from crossview.detector.ssd import SSD
from crossview.metrics.average_precision import DetectionAP

Config = Mapping[str, Any]
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


class DetectorModule(pl.LightningModule):
    """Base of the modules that train and evaluate SSD detectors.

    A subclass calls ``save_hyperparameters`` and then builds its ``net`` around `build_detector`. Hyper-parameters that
    all have:

    * class_names: foreground classes in the order of their labels 1..C.
    * image_size: height and width of the network's image in pixels.
    * backbone, anchors, loss, decoder: configs of the feature extractor, the default boxes, criterion and decoding.
    * extra_stages: layers after the backbone, see `crossview.detector.ssd.ExtraLayers`.
    * normalize_first_map: L2 normalisation of the first feature map.
    * variances: of the box offsets.
    * optimizer: config of the optimizer, ``_partial_``.
    * scheduler: ``interval`` ("step" or "epoch") and the config ``schedule`` of the learning rate, ``_partial_``.
    * weight_decay: L2 on the weights of convolutions and linear layers; biases and norms have none.
    * channels_last: memory format of the convolutions; None: what is fast here.
    * train_band: share of the rows that a training step looks at, see `crossview.detector.band`; None: all of them.

    Attributes:
        data_module: name of the class that gives the task its batches.
        random_start: whether the backbone has its first, random weights.
    """

    data_module: ClassVar[str]  # name of the class that gives this task its batches
    hparams: Any  # a plain attribute dictionary; Lightning types it as a union of three
    net: nn.Module

    def __init__(self) -> None:
        """Starts without hyper-parameters."""
        super().__init__()
        self.random_start = True
        self.detection_metrics = DetectionAP()
        # Lightning's own means over processes are off where the numbers of items are no multiples of each other.
        self.loss_means = nn.ModuleDict()

    def build_detector(self) -> SSD:
        """The detector of the hyper-parameters; sets criterion, decoder and `random_start` too."""
        config = self.hparams
        self.criterion = build(config["loss"], "model.loss")
        self.decoder: DetectionDecoder = build(config["decoder"], "model.decoder")
        detector = SSD(
            build(config["backbone"], "model.backbone"),
            len(config["class_names"]),
            config["image_size"],
            build(config["anchors"], "model.anchors"),
            config["extra_stages"],
            config["normalize_first_map"],
            config["variances"],
        )
        detector.use_memory_format(fast_memory_format(detector, config["channels_last"]))
        self.band_choice = _band_choice(config["train_band"], detector)
        self.random_start = config["backbone"].get("weights") is None
        if not self.random_start:
            # The weights have done their work; a checkpoint must load where their file or package does not exist.
            self.hparams["backbone"] = {**copy.deepcopy(dict(config["backbone"])), "weights": None}
        return detector

    @abstractmethod
    def detectors(self) -> list[SSD]:
        """The detectors of the network: one for all views, or one each."""

    @abstractmethod
    def losses(
        self,
        batch: Any,  # noqa: ANN401
        output: Any,  # noqa: ANN401
        ranks: Ranks = ALONE,
        band: Band | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted total and the terms by name.

        Args:
            batch: what the data module hands over.
            output: of `forward` for it.
            ranks: that share the batch; others than this one only for steps that all of them take together.
            band: that the detectors have seen of the images; None: everything.
        """

    @abstractmethod
    def evaluate_batch(self, batch: Any, output: Any) -> Any:  # noqa: ANN401
        """Adds a batch to the metrics; returns what a test hands on to `crossview.evaluation.collect`."""

    def metric_values(self) -> dict[str, Tensor]:
        """All metrics of the evaluation so far, by name; starts them anew."""
        values = {f"detection/{name}": value for name, value in self.detection_metrics.compute().items()}
        self.detection_metrics.reset()
        for name in self.loss_means:
            values[f"loss/{name}"] = self._mean_of(name).compute()
            self._mean_of(name).reset()
        return values

    def _mean_of(self, loss: str) -> MeanMetric:
        """What averages a loss over an evaluation."""
        if loss not in self.loss_means:
            self.loss_means[loss] = MeanMetric().to(self.device)
        return cast("MeanMetric", self.loss_means[loss])

    def setup(self, stage: str) -> None:
        """Refuses a precision in which boxes and losses would be wrong.

        Raises:
            ConfigError: says which ones there are.
        """
        if self.trainer.precision not in PRECISIONS:
            raise ConfigError(
                f"trainer.precision: found {self.trainer.precision}, expected one of {', '.join(PRECISIONS)}; pixels "
                "and metres need single precision, which the mixed ones keep outside of the detectors"
            )

    def check_norms(self) -> None:
        """Checks that batch normalisation can be exchanged for the kind that devices share.

        Raises:
            ConfigError: a layer does more than normalise, which PyTorch would drop.
        """
        for name, layer in self.named_modules():
            if isinstance(layer, nn.BatchNorm2d) and type(layer) is not nn.BatchNorm2d:
                raise ConfigError(
                    f"trainer.sync_batchnorm: found true, but {name} is a {type(layer).__name__}, which normalises and "
                    "activates in one; use false (its statistics are fixed unless model.backbone.freeze_norms=false)"
                )

    def single_precision(self) -> torch.autocast:
        """For all that follows the detectors, also within a step in mixed precision."""
        return torch.autocast(self.device.type, enabled=False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ANN401
        """The total loss of a batch."""
        choice = self.band_choice
        band = None if choice is None else choice.draw(batch.objects.boxes, batch.objects.present)
        output = self(batch, band)
        with self.single_precision():
            total, terms = self.losses(batch, output, current_ranks(), band)
        size = len(batch.names)
        self.log("train/loss/total", total.detach(), prog_bar=True, batch_size=size)
        self.log_dict({f"train/loss/{name}": value.detach() for name, value in terms.items()}, batch_size=size)
        self.log("train/lr", float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        return total

    def _evaluate(self, batch: Any) -> Any:  # noqa: ANN401
        output = self(batch)
        with self.single_precision():
            # Not over all ranks: their shares may differ by a batch, and the one without would never answer.
            total, terms = self.losses(batch, output)
            for name, value in {"total": total, **terms}.items():
                self._mean_of(name).update(value, weight=len(batch.names))
            return self.evaluate_batch(batch, output)

    def _log_metrics(self, split: str) -> None:
        for name, value in self.metric_values().items():
            self.log(f"{split}/{name}", float(value), prog_bar=name.endswith("/ap50") and split == "val")

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Losses and detections of a batch."""
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics of the validation set."""
        self._log_metrics("val")

    def test_step(self, batch: Any, batch_idx: int) -> Any:  # noqa: ANN401
        """Losses and detections of a batch; hands the detections on to callbacks."""
        return self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        """Logs the metrics of the test set."""
        self._log_metrics("test")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Weights out of a checkpoint are no random start any more."""
        self.random_start = False

    def learning_rate_factors(self) -> Iterable[tuple[nn.Module, float]]:
        """The parts of the network, with their learning rates as multiples of the optimizer's."""
        return [(detector, 1.0) for detector in self.detectors()]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimizer gets: each part of the network, with and without L2."""
        rate, decay = float(self.hparams["optimizer"]["lr"]), float(self.hparams["weight_decay"])
        groups: list[dict[str, Any]] = []
        for part, factor in self.learning_rate_factors():
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


def _band_choice(share: float | None, detector: SSD) -> BandChoice | None:
    """What chooses the bands of training steps.

    Raises:
        ConfigError: this detector cannot look at bands, or not at such ones.
    """
    if share is None:
        return None
    strides = detector.backbone.row_strides
    if strides is None:
        name = type(detector.backbone).__name__
        raise ConfigError(f"model.train_band: found {share}, but {name} can only look at whole images; use null")
    try:
        return BandChoice.of_share(share, detector.image_size[0], strides)
    except ValueError as error:
        raise ConfigError(f"model.train_band: {error}") from error
