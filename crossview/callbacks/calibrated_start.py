"""A better start where no pretrained weights are given: see `crossview.detector.calibration`."""

import logging

import pytorch_lightning as pl

from crossview.base_module import DetectorModule
from crossview.data.datamodule import SampleDataModule
from crossview.detector.calibration import calibrate

logger = logging.getLogger(__name__)


class CalibratedStart(pl.Callback):
    """Calibrates a randomly started network on the first training pairs, before the first step.

    Runs before the network is handed to the devices, on the same pairs in every process. A network that started from
    weights or from a checkpoint is left alone, and so are convolutions that a normalisation layer follows.
    """

    def __init__(self, pairs: int = 4) -> None:
        """Takes the number of pairs to look at."""
        self.pairs = pairs

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Calibrates once, when the data is there."""
        data = getattr(trainer, "datamodule", None)
        if stage != "fit" or not isinstance(pl_module, DetectorModule) or not isinstance(data, SampleDataModule):
            return
        if not pl_module.random_start or trainer.ckpt_path is not None:
            return
        pl_module.random_start = False
        if not any(detector.plain_convolutions() for detector in pl_module.detectors()):
            return
        dataset = data.dataset("train")
        batch = dataset.collate([dataset[index] for index in range(min(self.pairs, len(dataset)))])
        images = batch.images.flatten(0, -4)  # the views of pairs one after another
        for detector in pl_module.detectors():
            calibrate(detector, detector.plain_convolutions(), images)
        logger.info("Calibrated the random start on %d training pairs.", len(batch.names))
