"""The data of a run for Lightning: reads the files, builds the data sets and their loaders.

Without ``root`` pairs and panoramas come from the built-in sample, rendered once and kept in the cache folder.
"""

import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

import cv2
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_info
from torch.utils.data import DataLoader

from crossview.cores import usable_cores
from crossview.data.augment import Augmentation
from crossview.data.errors import DataError
from crossview.data.folders import as_tuple
from crossview.data.image_cache import ImageCache
from crossview.data.image_files import ImageSource
from crossview.data.loader import TrainLoader
from crossview.data.pairs import PairDataset
from crossview.data.readers import Reader
from crossview.data.samples import SampleDataset
from crossview.data.sampling import ShardSampler, TrainSampler
from crossview.data.views import ViewDataset
from crossview.data.voc import PairedVocReader
from crossview.signals import outlive_signals

Split = Literal["train", "val", "test"]
Samples = TypeVar("Samples", bound=SampleDataset[Any, Any])

_SPLITS_OF_STAGE: Final[dict[str | None, tuple[Split, ...]]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
    None: ("train", "val", "test"),
}
_MOST_WORKERS: Final = 4


class SampleDataModule(LightningDataModule, Generic[Samples]):
    """What the data modules of pairs and of single views share; see them for the arguments."""

    noun: ClassVar[str]

    def __init__(
        self,
        class_names: Sequence[str],
        root: str | os.PathLike[str] | None = None,
        *,
        reader: Callable[..., Reader] = PairedVocReader,
        train_set: str | Sequence[str] = "train",
        val_set: str | Sequence[str] = "val",
        test_set: str | Sequence[str] = "test",
        image_size: tuple[int, int] = (300, 600),
        image_cache: ImageCache | None = None,
        augment: Augmentation | None = None,
        seed: int = 0,
        batch_size: int = 4,
        eval_batch_size: int | None = None,
        num_workers: int | None = None,
        persistent_workers: bool = True,
        pin_memory: bool | None = None,
        **reader_options: Any,
    ) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.root = None if root is None else Path(root)
        self.image_sets: dict[Split, str | Sequence[str]] = {"train": train_set, "val": val_set, "test": test_set}
        self.batch_size = _at_least(1, "batch_size", batch_size)
        self.eval_batch_size = _at_least(1, "eval_batch_size", eval_batch_size or batch_size)
        self.num_workers = _auto_workers() if num_workers is None else _at_least(0, "num_workers", num_workers)
        self.persistent_workers = persistent_workers
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.seed = seed
        height, width = image_size
        self.image_size = height, width
        self._image_cache = image_cache
        self._augment = augment
        self._make_reader = reader
        self._kind: type[Reader] = reader.func if isinstance(reader, partial) else reader  # type: ignore[assignment]
        self._reader_options = reader_options
        self._datasets: dict[Split, Samples] = {}
        self._told: set[str] = set()
        self.test_follows = False  # whether "fit" reads the test set too, so that no training ends at a fault of that

    @abstractmethod
    def _dataset(self, found: Any, augment: Augmentation | None, images: ImageSource | None) -> Samples:  # noqa: ANN401
        """The data set of what the reader found."""

    def prepare_data(self) -> None:
        """Renders the built-in sample if no root is given; Lightning calls this in one process only."""
        if self.root is None and self._kind.has_pairs:
            _sample_root()

    def setup(self, stage: str | None = None) -> None:
        """Reads the image sets of a stage: "fit", "validate", "test", "predict", or None for all.

        Raises:
            DataError: something in the files is missing or wrong; tells of all sets at once.
        """
        ahead: tuple[Split, ...] = ("test",) if stage == "fit" and self.test_follows else ()
        faults: list[str] = []
        for split in (*_SPLITS_OF_STAGE[stage], *ahead):
            try:
                self.dataset(split)
            except DataError as error:
                faults.append(str(error))
        if faults:
            raise DataError("\n".join(dict.fromkeys(faults)))

    def dataset(self, split: Split) -> Samples:
        """The samples of a split, read from the files when they are first asked for; only "train" is augmented.

        Raises:
            DataError: something in the files is missing or wrong.
        """
        if split not in self._datasets:
            root = self._root()
            found = self._make_reader(root, self.class_names, **self._reader_options).read(self.image_sets[split])
            for notice in found.notices:
                self._tell(notice)
            augment = self._augment if split == "train" else None
            cache, sets = self._image_cache, as_tuple(self.image_sets[split])
            images = None if cache is None else cache.images(found.views, f"{root.resolve()} {sets}", self._tell)
            self._datasets[split] = self._dataset(found, augment, images)
        return self._datasets[split]

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches, shuffled and augmented."""
        samples = self.dataset("train")
        return self._loader(samples, TrainSampler(samples, self.seed, *self._rank_and_world_size()), self.batch_size)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Test batches."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The batches of the test split."""
        return self._eval_loader("test")

    def _eval_loader(self, split: Split) -> DataLoader[Any]:
        """Every sample of a split once over all processes.

        Raises:
            DataError: there are fewer samples than processes.
        """
        samples = self.dataset(split)
        rank, world_size = self._rank_and_world_size()
        if len(samples) < world_size:
            raise DataError(
                f"{split}_set {self.image_sets[split]!r} has {len(samples)} {self.noun} for {world_size} devices, "
                f"which wait for each other: choose a larger set or at most {len(samples)} devices (trainer.devices)"
            )
        return self._loader(samples, ShardSampler(samples, rank, world_size), self.eval_batch_size)

    def _loader(self, samples: Samples, sampler: TrainSampler | ShardSampler, batch_size: int) -> DataLoader[Any]:
        kind = TrainLoader if isinstance(sampler, TrainSampler) else DataLoader
        return kind(
            samples,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=samples.collate,
            pin_memory=self.pin_memory,
            worker_init_fn=_start_worker,
            generator=torch.Generator().manual_seed(
                self.seed
            ),  # else every pass draws from the training's random numbers
            persistent_workers=self.persistent_workers and self.num_workers > 0,
        )

    def _root(self) -> Path:
        """The data root, which without a configured one is that of the sample.

        Raises:
            DataError: there is no sample of this kind.
        """
        if self.root is not None:
            return self.root
        if not self._kind.has_pairs:
            raise DataError(f"data.root is not set; data={self._kind.config} needs a folder of images: data.root=DIR")
        root = _sample_root()
        self._tell(
            f"data.root is not set: this run uses the rendered sample in {root}. For your own data: data.root=DIR"
        )
        return root

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _tell(self, message: str) -> None:
        """Prints a message once in a run, in one process."""
        if message not in self._told:
            self._told.add(message)
            rank_zero_info(message)


class PairDataModule(SampleDataModule[PairDataset]):
    """Pairs of panoramas for training, validation and test.

    Args:
        class_names: foreground classes in the order of their labels 1..C.
        root: data root; None for the built-in sample.
        reader: what reads the files, called with root, class names and ``reader_options``.
        train_set: image set or sets to train on.
        val_set: image set or sets to validate on.
        test_set: image set or sets to test and predict on.
        image_size: height and width of the network's images, pixels.
        image_cache: keeps the images in a smaller size; None for none.
        camera_height_m: height of the cameras above the ground, metres.
        augment: random changes of training samples; None for a plain resize.
        seed: of the order of the samples and all random changes.
        batch_size: samples in a training batch, a process.
        eval_batch_size: samples in any other batch; None for ``batch_size``.
        num_workers: loader processes; None for one less than the processor cores, 1 to 4.
        persistent_workers: whether they live on from epoch to epoch.
        pin_memory: whether batches are copied to the GPU from pinned memory; None if there is a GPU.
        **reader_options: folders and policies, see the reader.

    Raises:
        ValueError: a number is out of its range.
        DataError: the reader finds no pairs.
    """

    noun = "pairs"

    def __init__(
        self,
        class_names: Sequence[str],
        root: str | os.PathLike[str] | None = None,
        *,
        camera_height_m: float = 3.0,
        **settings: Any,
    ) -> None:
        super().__init__(class_names, root, **settings)
        self._camera_height_m = camera_height_m
        if not self._kind.has_pairs:
            raise DataError(f"data={self._kind.config} has single images without poses; use task=single")

    def _dataset(self, found: Any, augment: Augmentation | None, images: ImageSource | None) -> PairDataset:  # noqa: ANN401
        return PairDataset(found.views, found.pairs, self.image_size, self._camera_height_m, augment, self.seed, images)


class ViewDataModule(SampleDataModule[ViewDataset]):
    """Single views for training, validation and test: photos, or the distinct panoramas of pairs.

    Args:
        class_names: foreground classes in the order of their labels 1..C.
        root: data root; None for the built-in sample, where the reader is that of pairs.
        camera_height_m: of no importance here; data configs of pairs have it.
        **settings: see `PairDataModule`.

    Raises:
        ValueError: a number is out of its range.
    """

    noun = "images"

    def __init__(
        self,
        class_names: Sequence[str],
        root: str | os.PathLike[str] | None = None,
        *,
        camera_height_m: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(class_names, root, **settings)

    def _dataset(self, found: Any, augment: Augmentation | None, images: ImageSource | None) -> ViewDataset:  # noqa: ANN401
        return ViewDataset(found.views, self.image_size, augment, self.seed, images)


def _sample_root() -> Path:
    """Folder of the built-in sample, rendered first if it is not there."""
    from crossview.data.streets.sample import ensure_sample  # the renderer is loaded by those who need it only

    return ensure_sample()


def _start_worker(worker: int) -> None:
    """OpenCV's own threads would compete with the other workers and with the training."""
    cv2.setNumThreads(0)
    outlive_signals()


def _auto_workers() -> int:
    return min(max(usable_cores() - 1, 1), _MOST_WORKERS)


def _at_least(least: int, name: str, value: int) -> int:
    if value < least:
        raise ValueError(f"data.{name} is {value}; expected {least} or more")
    return value
