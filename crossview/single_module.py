"""The Lightning shell of the SSD of single images: hooks only, the maths lives in the packages below."""

from collections.abc import Sequence

from torch import Tensor

from crossview.base_module import Config, DetectorModule
from crossview.data.batch import ViewBatch
from crossview.detector.band import Band
from crossview.detector.criterion import SSDCriterion
from crossview.detector.detections import ViewDetections
from crossview.detector.ranks import ALONE, Ranks
from crossview.detector.single import SingleSSD
from crossview.detector.ssd import SSD, SSDOutput
from crossview.geometry.camera import seam


class SingleViewModule(DetectorModule):
    """Trains and evaluates an SSD on single images, panoramas or photos.

    Logged by name: ``{train,val,test}/loss/{total,view}``, and at the end of an evaluation
    ``{val,test}/detection/{ap50,voc07_ap}``.
    """

    data_module = "crossview.data.datamodule.ViewDataModule"
    net: SingleSSD
    criterion: SSDCriterion

    def __init__(
        self,
        class_names: Sequence[str],
        image_size: Sequence[int],
        backbone: Config,
        anchors: Config,
        extra_stages: Sequence[Sequence[int]],
        loss: Config,
        decoder: Config,
        optimizer: Config,
        scheduler: Config,
        normalize_first_map: bool = True,
        variances: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
        weight_decay: float = 0.0005,
        channels_last: bool | None = None,
        train_band: float | None = None,
    ) -> None:
        """Builds network, loss and metrics; arguments as in `DetectorModule`."""
        super().__init__()
        self.save_hyperparameters()
        self.net = SingleSSD(self.build_detector())

    def detectors(self) -> list[SSD]:
        """The one detector."""
        return [self.net.detector]

    def forward(self, batch: ViewBatch, band: Band | None = None) -> SSDOutput:
        """Raw outputs of a batch of images, of which the detectors see a band of rows only, if one is given."""
        output: SSDOutput = self.net(batch.images, band)
        return output

    def detect(self, batch: ViewBatch, output: SSDOutput) -> ViewDetections:
        """Detections (B, D)."""
        return self.net.detections(output, batch.period, self.decoder)

    def losses(
        self, batch: ViewBatch, output: SSDOutput, ranks: Ranks = ALONE, band: Band | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, and the one term that it consists of, see `DetectorModule.losses`."""
        detector = self.net.detector
        around = seam(batch.period, detector.image_size[1])
        terms = self.criterion(output, batch.objects, detector.anchors, detector.variances, around, ranks, band)
        return self.criterion.total(terms)

    def evaluate_batch(self, batch: ViewBatch, output: SSDOutput) -> ViewDetections:
        """Adds the detections of a batch to the metrics and returns them."""
        detections = self.detect(batch, output)
        self.detection_metrics.update(batch.view_index, detections, batch.objects, batch.period)
        return detections
