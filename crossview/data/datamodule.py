"""The data of a run for Lightning: reads the files, builds the data sets and their loaders.

Without ``root`` it uses the built-in sample, rendered once and kept in the cache folder.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_info
from torch.utils.data import DataLoader

from crossview.data.augment import Augmentation
from crossview.data.batch import PairSample
from crossview.data.errors import DataError
from crossview.data.pairs import PairDataset
from crossview.data.sampling import ShardSampler, TrainSampler
from crossview.data.voc import PairedVocReader

Split = Literal["train", "val", "test"]

_SPLITS_OF_STAGE: Final[dict[str | None, tuple[Split, ...]]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
    None: ("train", "val", "test"),
}
_MOST_WORKERS: Final = 4


class PairDataModule(LightningDataModule):
    """Pairs of panoramas for training, validation and test.

    Args:
        class_names: foreground classes in the order of their labels 1..C.
        root: data root; None for the built-in sample.
        train_set: image set or sets to train on.
        val_set: image set or sets to validate on.
        test_set: image set or sets to test and predict on.
        image_size: height and width of the network's images, pixels.
        camera_height_m: height of the cameras above the ground, metres.
        augment: random changes of training pairs; None for a plain resize.
        seed: of the order of the pairs and all random changes.
        batch_size: pairs in a training batch, a process.
        eval_batch_size: pairs in any other batch; None for ``batch_size``.
        num_workers: loader processes; None for one less than the processor cores, 1 to 4.
        persistent_workers: whether they live on from epoch to epoch.
        pin_memory: whether batches are copied to the GPU from pinned memory; None if there is a GPU.
        **reader_options: folders and policies, see `PairedVocReader`.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        root: str | os.PathLike[str] | None = None,
        *,
        train_set: str | Sequence[str] = "train",
        val_set: str | Sequence[str] = "val",
        test_set: str | Sequence[str] = "test",
        image_size: tuple[int, int] = (300, 600),
        camera_height_m: float = 3.0,
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
        self._make_dataset = partial(
            PairDataset, image_size=(height, width), camera_height_m=camera_height_m, seed=seed
        )
        self._augment = augment
        self._reader_options = reader_options
        self._datasets: dict[Split, PairDataset] = {}
        self._told: set[str] = set()

    def prepare_data(self) -> None:
        """Renders the built-in sample if no root is given; Lightning calls this in one process only."""
        if self.root is None:
            _sample_root()

    def setup(self, stage: str | None = None) -> None:
        """Reads the image sets of a stage: "fit", "validate", "test", "predict", or None for all.

        Raises:
            DataError: something in the files is missing or wrong.
        """
        for split in _SPLITS_OF_STAGE[stage]:
            self.dataset(split)

    def dataset(self, split: Split) -> PairDataset:
        """The pairs of a split, read from the files when they are first asked for; only "train" is augmented.

        Raises:
            DataError: something in the files is missing or wrong.
        """
        if split not in self._datasets:
            found = self._reader().read(self.image_sets[split])
            for notice in found.notices:
                self._tell(notice)
            augment = self._augment if split == "train" else None
            self._datasets[split] = self._make_dataset(found.views, found.pairs, augment=augment)
        return self._datasets[split]

    def train_dataloader(self) -> DataLoader[PairSample]:
        """Training batches, shuffled and augmented."""
        pairs = self.dataset("train")
        return self._loader(pairs, TrainSampler(pairs, self.seed, *self._rank_and_world_size()), self.batch_size)

    def val_dataloader(self) -> DataLoader[PairSample]:
        """Validation batches."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[PairSample]:
        """Test batches."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> DataLoader[PairSample]:
        """The batches of the test split."""
        return self._eval_loader("test")

    def _eval_loader(self, split: Split) -> DataLoader[PairSample]:
        """Every pair of a split once over all processes.

        Raises:
            DataError: there are fewer pairs than processes.
        """
        pairs = self.dataset(split)
        rank, world_size = self._rank_and_world_size()
        if len(pairs) < world_size:
            raise DataError(
                f"{split}_set {self.image_sets[split]!r} has {len(pairs)} pairs for {world_size} devices, which wait "
                f"for each other: choose a larger set or at most {len(pairs)} devices (trainer.devices)"
            )
        return self._loader(pairs, ShardSampler(pairs, rank, world_size), self.eval_batch_size)

    def _loader(
        self, pairs: PairDataset, sampler: TrainSampler | ShardSampler, batch_size: int
    ) -> DataLoader[PairSample]:
        return DataLoader(
            pairs,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=pairs.collate,
            pin_memory=self.pin_memory,
            worker_init_fn=_start_worker,
            persistent_workers=self.persistent_workers and self.num_workers > 0,
        )

    def _reader(self) -> PairedVocReader:
        root = self.root
        if root is None:
            root = _sample_root()
            self._tell(
                f"data.root is not set: this run uses the rendered sample in {root}. For your own data: data.root=DIR"
            )
        return PairedVocReader(root, self.class_names, **self._reader_options)

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _tell(self, message: str) -> None:
        """Prints a message once in a run, in one process."""
        if message not in self._told:
            self._told.add(message)
            rank_zero_info(message)


def _sample_root() -> Path:
    """Folder of the built-in sample, rendered first if it is not there."""
    from crossview.data.streets.sample import ensure_sample  # the renderer is loaded by those who need it only

    return ensure_sample()


def _start_worker(worker: int) -> None:
    """OpenCV's own threads would compete with the other workers and with the training."""
    cv2.setNumThreads(0)


def _auto_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores - 1, 1), _MOST_WORKERS)


def _at_least(least: int, name: str, value: int) -> int:
    if value < least:
        raise ValueError(f"data.{name} is {value}; expected {least} or more")
    return value
