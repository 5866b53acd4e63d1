"""A better start where no pretrained weights are given: see `crossview.detector.calibration`."""

import logging

import pytorch_lightning as pl

from crossview.base_module import DetectorModule
from crossview.data.datamodule import SampleDataModule
from crossview.detector.calibration import calibrate_start

logger = logging.getLogger(__name__)


class CalibratedStart(pl.Callback):
    """Calibrates a randomly started network on a few training samples, before the first step.

    They lie evenly over the training set, and one view of a pair is enough: neighbours look alike, and four views of
    four streets represent the rest better than eight of one. Runs before the network is handed to the devices, on the
    same samples in every process. A network that started from weights or from a checkpoint is left alone, and so are
    convolutions that a normalisation layer follows.
    """

    def __init__(self, images: int = 4) -> None:
        """Takes the number of images to look at, each of another sample."""
        self.images = images

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
        count = min(self.images, len(dataset))
        batch = dataset.collate([dataset[number * len(dataset) // count] for number in range(count)])
        images = batch.images[:, 0] if batch.images.ndim == 5 else batch.images
        for detector in pl_module.detectors():
            calibrate_start(detector, detector.plain_convolutions(), images)
        logger.info("Calibrated the random start on %d training images.", len(images))
