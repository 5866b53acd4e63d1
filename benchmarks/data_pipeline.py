"""From JPEG files of 2048x1024 pixels to augmented batches: ``python -m benchmarks.run data_pipeline``.

The package's loader, without and with its caches and with 0, 1 and 2 workers, against a plain SSD pipeline of
torchvision.transforms.v2 on the same files. The package changes both views of a pair alike and moves their cameras
along; torchvision's pipeline changes every view by itself and knows no cameras.
"""

import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import torch
from hydra.utils import instantiate
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.io import decode_image
from torchvision.transforms import v2

from benchmarks.augmentation import smooth_noise
from benchmarks.benchmark import Benchmark, Ratio, Report, Row
from benchmarks.networks import composed
from benchmarks.timing import PROCESSOR, WALL, Work, in_turn, one_thread, seconds
from crossview.data.annotation import ViewAnnotation
from crossview.data.datamodule import PairDataModule
from crossview.data.pairs import PairDataset
from tests.data.make_voc import IMAGES, write_pair_dataset

PEER = "torchvision.transforms.v2, ssd"
CACHES = {"": "none", ", cache of JPEGs": "jpeg", ", cache of arrays": "arrays"}
GOALS = {"": 20.0, ", cache of JPEGs": 60.0, ", cache of arrays": 60.0}


class TorchvisionPairs(Dataset[list[tuple[torch.Tensor, torch.Tensor]]]):
    """The pairs of a data set through torchvision's transforms.

    Args:
        pairs: of the package.
    """

    def __init__(self, pairs: PairDataset) -> None:
        self._pairs = pairs
        self._change = v2.Compose(
            [
                v2.RandomPhotometricDistort(),
                v2.RandomZoomOut(fill=[123, 117, 104], side_range=(1.0, 2.0)),
                v2.RandomIoUCrop(),
                v2.RandomHorizontalFlip(),
                v2.Resize((pairs.height, pairs.width)),
                v2.SanitizeBoundingBoxes(),
            ]
        )

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._pairs)

    def __getitem__(self, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Images (3, H, W) and boxes (G, 4) of both views."""
        return [self._view(self._pairs.views[number]) for number in self._pairs.pairs[index]]

    def _view(self, annotation: ViewAnnotation) -> tuple[torch.Tensor, torch.Tensor]:
        image = tv_tensors.Image(decode_image(str(annotation.image)))
        boxes = tv_tensors.BoundingBoxes(annotation.boxes, format="XYXY", canvas_size=tuple(image.shape[-2:]))
        changed = self._change({"image": image, "boxes": boxes, "labels": torch.from_numpy(annotation.labels)})
        return changed["image"], changed["boxes"]


@dataclass(frozen=True)
class DataPipeline(Benchmark):
    """The benchmark.

    Attributes:
        pairs: of a pass; a round is a pass.
        size: width and height of the files.
        objects: of a pair.
        workers: numbers of loader processes.
        batch_size: pairs.
        quality: of the JPEG files.
    """

    name: ClassVar[str] = "data_pipeline"
    title: ClassVar[str] = "Data pipeline"
    rounds: int = 5
    pairs: int = 24
    size: tuple[int, int] = (2048, 1024)
    objects: int = 15
    workers: Sequence[int] = (0, 1, 2)
    batch_size: int = 4
    quality: int = 90

    @classmethod
    def tiny(cls) -> "DataPipeline":
        """A few small files."""
        return cls(1, 2, (256, 128), 4, (0, 1), 1)

    def measure(self) -> Report:
        """Measures: without workers on one thread by the processor's clock, else by the one on the wall."""
        report = Report()
        with tempfile.TemporaryDirectory() as folder, one_thread():
            root = self._files(Path(folder))
            for workers in self.workers:
                loaders = self._loaders(root, Path(folder), workers)
                if workers == self.workers[0]:
                    self._caches(report, loaders)
                work: dict[str, Work] = {name: _pass(loader) for name, loader in loaders.items()}
                times = in_turn(work, self.rounds, PROCESSOR if workers == 0 else WALL)
                rates = {name: self.pairs / taken.median for name, taken in times.items()}
                who = f"{workers} worker{'' if workers == 1 else 's'}"
                report.rows += [
                    Row(f"{name}, {who}", rate, "pairs/s", count=self.rounds) for name, rate in rates.items()
                ]
                for ending, goal in GOALS.items():
                    rate = rates[f"crossview, ssd{ending}"]
                    report.ratios += [
                        Ratio(f"pairs/s and core{ending}, {who}", rate / max(workers, 1), goal, unit="pairs/s"),
                        Ratio(f"crossview{ending} / {PEER}, {who}", rate / rates[PEER]),
                    ]
                del loaders, work
            kilobytes = next((root / IMAGES).iterdir()).stat().st_size / 1024
        report.notes.append(
            f"{self.size[0]}x{self.size[1]} JPEG files of {kilobytes:.0f} kB, batches of {self.batch_size}; without "
            "workers by the processor's clock of one thread, with them on the wall and divided by their number"
        )
        return report

    def _files(self, folder: Path) -> Path:
        """Annotated pairs whose pictures cost a decoder as much as photos."""
        root = write_pair_dataset(folder / "data", pairs={"train": self.pairs}, size=self.size, objects=self.objects)
        pictures = [smooth_noise(*self.size, seed=seed) for seed in range(2)]
        for number, path in enumerate(sorted((root / IMAGES).iterdir())):
            cv2.imwrite(str(path), pictures[number % 2], [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        return root

    def _loaders(self, root: Path, folder: Path, workers: int) -> dict[str, DataLoader[Any]]:
        """All loaders, the peer's too."""
        loaders, plain = {}, None
        for augment in ("ssd", "panorama"):
            for ending, cache in CACHES.items():
                settings = [
                    f"data.root={root}",
                    f"data.cache_dir={folder}/annotations",
                    f"data.num_workers={workers}",
                    f"data.batch_size={self.batch_size}",
                    f"data/augment={augment}",
                    f"data/image_cache={cache}",
                ]
                if cache != "none":
                    settings += [f"data.image_cache.folder={folder}/images", "data.image_cache.progress=false"]
                data: PairDataModule = instantiate(composed("ssd300", settings).data, _convert_="all")
                loaders[f"crossview, {augment}{ending}"] = data.train_dataloader()
                plain = data.dataset("train") if plain is None else plain
        assert plain is not None, "there is at least one loader"
        loaders[PEER] = DataLoader(
            TorchvisionPairs(plain),
            batch_size=self.batch_size,
            shuffle=True,
            num_workers=workers,
            collate_fn=list,
            persistent_workers=workers > 0,
        )
        return loaders

    def _caches(self, report: Report, loaders: dict[str, DataLoader[Any]]) -> None:
        """What the first look at every pair of a cache costs."""
        for ending in list(CACHES)[1:]:
            spent = seconds(_pass(loaders[f"crossview, ssd{ending}"]))
            report.rows.append(Row(f"first pass{ending}", spent, "s"))


def _pass(loader: DataLoader[Any]) -> Work:
    """All batches once."""
    return lambda: deque(loader, maxlen=0)
