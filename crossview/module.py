"""The Lightning shell of the dual SSD: hooks only, the maths lives in the packages below."""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from crossview.base_module import Config, DetectorModule
from crossview.build import build
from crossview.data.batch import PairBatch
from crossview.detector.band import Band
from crossview.detector.detections import ViewDetections
from crossview.detector.ranks import ALONE, Ranks
from crossview.detector.ssd import SSD
from crossview.dual.appearance import AppearanceHead, jittered, reid_term
from crossview.dual.criterion import REID, DualCriterion
from crossview.dual.dual_ssd import DualOutput, DualSSD
from crossview.dual.earlier_heads import with_target
from crossview.dual.head import ProjectionHead
from crossview.dual.placed import PlacedDetections
from crossview.geometry.camera import period
from crossview.metrics.cross_view import CrossViewMetrics


class CrossViewModule(DetectorModule):
    """Trains and evaluates the dual SSD with its four losses, and the optional fifth of what objects look like.

    Logged by name: ``{train,val,test}/loss/{total,view_1,view_2,view_1_to_2,view_2_to_1,reid}``, and at the end of an
    evaluation ``{val,test}/detection/{ap50,voc07_ap}`` and ``{val,test}/cross/{ap50,geometry_ap50,center_px}``.

    The metrics of an evaluation do not depend on its batch size. Its losses do, somewhat: each batch divides by its own
    number of positives and mines its own negatives, and the batches are averaged by their numbers of pairs.
    """

    data_module = "crossview.data.datamodule.PairDataModule"
    net: DualSSD
    criterion: DualCriterion

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
        appearance: Config | None = None,
        share_weights: bool = True,
        normalize_first_map: bool = True,
        variances: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
        weight_decay: float = 0.0005,
        projection_lr_factor: float = 1.0,
        channels_last: bool | None = None,
        train_band: float | None = None,
    ) -> None:
        """Builds network, losses and metrics; arguments as in `DetectorModule`, and those of two views.

        Args:
            class_names: see `DetectorModule`, as all that is not listed here.
            image_size: height and width of the network's image in pixels.
            backbone: config of the feature extractor.
            anchors: config of the default boxes.
            extra_stages: layers after the backbone.
            projection: config of the head that places boxes in the other view.
            loss: config of the criterion.
            decoder: config of the decoding.
            optimizer: config of the optimizer.
            scheduler: interval and config of the learning rate's schedule.
            appearance: arguments of `crossview.dual.appearance.AppearanceHead`; None: objects are not embedded.
            share_weights: one set of detector weights for both views, or two.
            normalize_first_map: L2 normalisation of the first feature map.
            variances: of the box offsets.
            weight_decay: L2 of weights.
            projection_lr_factor: learning rate of the projection head as a multiple of the optimizer's.
            channels_last: memory format of the convolutions; None: what is fast here.
            train_band: share of the rows that a training step looks at; None: all of them.
        """
        super().__init__()
        projection = with_target(projection)
        self.save_hyperparameters()
        detector = self.build_detector()
        head: ProjectionHead = build(
            projection, "model.projection", image_size=detector.image_size, variances=detector.variances
        )
        embedder = None if appearance is None else AppearanceHead(detector.map_channels[:2], **appearance)
        self.net = DualSSD(detector, head, share_weights, embedder)
        self.cross_metrics = CrossViewMetrics()

    def detectors(self) -> list[SSD]:
        """The detector of both views, or that of view 1 and that of view 2."""
        return self.net.detectors()

    def forward(self, batch: PairBatch, band: Band | None = None) -> DualOutput:
        """Raw outputs of a batch of pairs, of which the detectors see a band of rows only, if one is given."""
        output: DualOutput = self.net(batch.images, band)
        return output

    def detect(self, batch: PairBatch, output: DualOutput) -> tuple[ViewDetections, PlacedDetections]:
        """Detections (B, 2, D) of both views and where they are in the other view."""
        return self.net.detections(output, batch.cameras, self.decoder)

    def losses(
        self, batch: PairBatch, output: DualOutput, ranks: Ranks = ALONE, band: Band | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted total and the terms of a batch of pairs, see `DetectorModule.losses`."""
        detector = self.net.detector
        terms = self.criterion(
            output,
            self.net.place(output.boxes, output.objectness, batch.cameras),
            batch.objects,
            batch.cameras,
            detector.anchors,
            detector.variances,
            detector.image_size[1],
            ranks,
            band,
        )
        if self.net.appearance is not None:
            boxes = batch.objects.boxes
            if self.training:
                boxes = jittered(boxes, self.criterion.box_jitter)
            vectors = self.net.embed(output, boxes, batch.cameras)
            terms[REID] = reid_term(vectors, self.net.appearance.similarity, batch.objects, ranks)
        return self.criterion.total(terms)

    def evaluate_batch(
        self, batch: PairBatch, output: DualOutput
    ) -> tuple[DualOutput, ViewDetections, PlacedDetections]:
        """Adds the detections of a batch to the metrics; returns them after the raw outputs."""
        detections, placed = self.detect(batch, output)
        around = period(batch.cameras)
        self.detection_metrics.update(batch.view_index, detections, batch.objects, around)
        pixel_scale = batch.panorama_size / batch.panorama_size.new_tensor(batch.images.shape[:-3:-1])
        self.cross_metrics.update(batch.pair_index, detections, placed, batch.objects, around, pixel_scale)
        return output, detections, placed

    def metric_values(self) -> dict[str, Tensor]:
        """All metrics of the evaluation so far, by name; starts them anew."""
        values = super().metric_values() | {
            f"cross/{name}": value for name, value in self.cross_metrics.compute().items()
        }
        self.cross_metrics.reset()
        return values

    def learning_rate_factors(self) -> Iterable[tuple[nn.Module, float]]:
        """The detectors and the heads, with their learning rates as multiples of the optimizer's."""
        factor = float(self.hparams["projection_lr_factor"])
        heads: list[tuple[nn.Module, float]] = [(self.net.projection, factor)]
        if self.net.appearance is not None:
            heads.append((self.net.appearance, 1.0))
        return [*super().learning_rate_factors(), *heads]
