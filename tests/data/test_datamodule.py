"""The data module: files to batches, as the trainer uses it."""

import logging
import multiprocessing
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn
from torch.utils.data import DistributedSampler

import crossview
from crossview.data import datamodule as module
from crossview.data.augment import Augmentation, Crop, Expand, Interpolation, Mirror, Photometric, Roll
from crossview.data.batch import PairBatch
from crossview.data.datamodule import PairDataModule
from crossview.data.errors import DataError
from tests.data.make_voc import write_pair_dataset

CONF = Path(crossview.__file__).parent.parent / "conf"
FULL = Augmentation(
    roll=Roll(), expand=Expand(), crop=Crop(), mirror=Mirror(), photometric=Photometric(), interpolation=Interpolation()
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_pair_dataset(tmp_path_factory.mktemp("data"), pairs={"train": 7, "val": 3, "test": 2}, size=(128, 64))


def make(root, **settings: Any):
    values: dict[str, Any] = {
        "augment": FULL,
        "image_size": (32, 64),
        "batch_size": 3,
        "num_workers": 0,
        "use_cache": False,
        "progress": False,
    }
    return PairDataModule(["tree"], root, **{**values, **settings})


def epoch_of(loader, epoch):
    """All batches of an epoch."""
    loader.sampler.set_epoch(epoch)
    return list(loader)


def same(one: PairBatch, other: PairBatch) -> bool:
    tensors = [
        [*batch[:1], *batch.objects, *batch.cameras, batch.view_index, batch.pair_index] for batch in (one, other)
    ]
    return one.names == other.names and all(torch.equal(*both) for both in zip(*tensors, strict=True))


def test_every_set_becomes_the_batches_of_its_stage(root):
    data = make(root, eval_batch_size=2)
    data.setup("fit")
    data.setup("test")
    loaders = data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()
    assert [[len(batch.names) for batch in loader] for loader in loaders] == [[3, 3, 1], [2, 1], [2], [2]]
    batch = next(iter(loaders[1]))
    assert isinstance(batch, PairBatch)
    assert batch.names == [("val000_z1", "val000_z2"), ("val001_z1", "val001_z2")]
    assert batch.images.shape == (2, 2, 3, 32, 64)


def test_faults_of_all_sets_are_told_before_a_training(root):
    data = make(root, val_set="no_val", test_set="no_test")
    with pytest.raises(DataError) as only:
        data.setup("fit")
    assert "no_val" in str(only.value)
    assert "no_test" not in str(only.value)
    data.test_follows = True
    with pytest.raises(DataError) as both:
        data.setup("fit")
    assert "no_val" in str(both.value)
    assert "no_test" in str(both.value)
    lost = make(root / "nowhere")
    with pytest.raises(DataError) as once:
        lost.setup("fit")
    assert str(once.value).count("nowhere") == str(_error_of(lambda: lost.dataset("train"))).count("nowhere")


def _error_of(work):
    with pytest.raises(DataError) as caught:
        work()
    return caught.value


def test_several_sets_are_read_together(root):
    assert len(make(root, train_set=["train_few", "val_few"]).dataset("train")) == 6


def test_only_training_pairs_are_augmented(root):
    data = make(root)
    whole = torch.tensor([1 / 64, 1 / 32])
    for batch in data.val_dataloader():
        assert torch.equal(batch.cameras.scale, whole.expand(len(batch.names), 2, 2))
        assert not batch.cameras.offset.any()
    assert any((batch.cameras.scale != whole).any() for batch in data.train_dataloader())


def test_draws_are_the_same_with_any_number_of_workers_and_different_in_every_epoch(root):
    alone, workers = make(root).train_dataloader(), make(root, num_workers=2).train_dataloader()
    epochs = []
    for epoch in (0, 1, 0):  # the workers live on
        batches = epoch_of(alone, epoch)
        assert all(same(*both) for both in zip(batches, epoch_of(workers, epoch), strict=True))
        epochs.append(batches)
    assert all(same(*both) for both in zip(epochs[0], epochs[2], strict=True))

    def images(batches):
        return {batch.pair_index[row].item(): batch.images[row] for batch in batches for row in range(len(batch.names))}

    before, after = images(epochs[0]), images(epochs[1])
    assert set(before) == set(after) == set(range(7)), "every pair once in every epoch"
    assert not any(torch.equal(before[index], after[index]) for index in before)
    assert list(before) != list(after), "and in another order"


class Recorder(pl.LightningModule):
    """Trains one weight and remembers what it was fed with."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[int], int]] = []

    def training_step(self, batch: PairBatch, number: int) -> torch.Tensor:
        assert isinstance(batch, PairBatch)
        self.seen.append((self.current_epoch, batch.pair_index.tolist(), int(batch.images.sum())))
        return self.weight**2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(root, epochs, folder, resume=None, **settings):
    """Trains, saves a checkpoint, and returns what was seen."""
    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        limit_val_batches=0,
    )
    trainer.fit(recorder, datamodule=make(root, **settings), ckpt_path=resume)
    trainer.save_checkpoint(folder / f"{epochs}.ckpt")
    return recorder.seen


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="only Linux says who sent a signal")
def test_workers_outlive_a_signal_to_all_processes_but_not_that_of_the_training(root):
    data = make(root, num_workers=1, batch_size=1, persistent_workers=False)
    batches = iter(data.val_dataloader())
    (worker,) = multiprocessing.active_children()
    next(batches)  # it is at work
    for number in ("INT", "TERM", "TERM"):
        subprocess.run(["sh", "-c", f"kill -{number} {worker.pid}"], check=True)
    next(batches)
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0


def test_a_resumed_training_continues_with_the_draws_of_its_epoch(root, tmp_path):
    through = fit(root, 3, tmp_path)
    assert len({seen[2] for seen in through}) == len(through) == 9, "no batch comes twice"
    first = fit(root, 2, tmp_path)
    rest = fit(root, 3, tmp_path, resume=tmp_path / "2.ckpt")
    assert first + rest == through


def test_processes_share_the_pairs_and_lightning_leaves_the_samplers_alone(root, monkeypatch):
    seen: dict[str, list[int]] = {"train": [], "val": []}
    for rank in range(2):
        data = make(root)
        monkeypatch.setattr(data, "_rank_and_world_size", lambda rank=rank: (rank, 2))
        for split, loader in (("train", data.train_dataloader()), ("val", data.val_dataloader())):
            assert isinstance(loader.sampler, DistributedSampler), "what Lightning takes for shared out already"
            seen[split] += [index for batch in loader for index in batch.pair_index.tolist()]
    assert len(seen["train"]) == 8
    assert set(seen["train"]) == set(range(7))
    assert sorted(seen["val"]) == [0, 1, 2]


def test_fewer_pairs_than_processes_are_an_error(root, monkeypatch):
    data = make(root)
    monkeypatch.setattr(data, "_rank_and_world_size", lambda: (0, 4))
    with pytest.raises(DataError, match=r"val_set 'val' has 3 pairs for 4 devices.*at most 3 devices"):
        data.val_dataloader()


def test_without_a_root_the_sample_is_rendered_once_and_said_so_once(root, monkeypatch, caplog):
    calls = []

    def sample_root():
        calls.append(1)
        return root

    monkeypatch.setattr(module, "_sample_root", sample_root)
    data = make(None)
    data.prepare_data()
    assert calls == [1]
    with caplog.at_level(logging.INFO):
        data.setup("fit")
        data.setup("test")
    lines = [record.getMessage() for record in caplog.records if "data.root" in record.getMessage()]
    assert len(lines) == 1
    assert str(root) in lines[0]
    assert "data.root=DIR" in lines[0]


def test_with_a_root_nothing_is_rendered(root, monkeypatch):
    monkeypatch.setattr(module, "_sample_root", lambda: pytest.fail("the sample was asked for"))
    data = make(root)
    data.prepare_data()
    data.setup()
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [7, 3, 2]


# setting, message
@pytest.mark.parametrize(
    ("values", "message"),
    [({"batch_size": 0}, "data.batch_size is 0"), ({"num_workers": -1}, "data.num_workers is -1")],
)
def test_a_number_out_of_range_is_refused(root, values, message):
    with pytest.raises(ValueError, match=message):
        make(root, **values)


def test_a_broken_image_is_reported_from_a_worker(root, tmp_path):
    broken = write_pair_dataset(tmp_path, pairs=1, size=(128, 64))
    data = make(broken, num_workers=1)
    image = data.dataset("train").views[0].image
    data.setup("fit")
    image.write_bytes(image.read_bytes()[:300])
    with pytest.raises(DataError, match=image.name):
        list(data.train_dataloader())


# choice of data/augment, transforms that are there
@pytest.mark.parametrize(("augment", "expected"), [("ssd", True), ("none", False)])
def test_the_shipped_config_builds_it(root, augment, expected):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = [
            f"data/augment={augment}",
            f"data.root={root}",
            "data.num_workers=0",
            "seed=3",
            "data.use_cache=false",
        ]
        config = compose("train", [*overrides, "data.train_set=train_few", "data.batch_size=2"])
    data = instantiate(config.data)
    assert isinstance(data, PairDataModule)
    batch = next(iter(data.train_dataloader()))
    assert batch.images.shape == (2, 2, 3, 300, 600)
    dataset = data.dataset("train")
    assert dataset.seed == 3
    parts = [dataset.augment.roll, dataset.augment.expand, dataset.augment.crop, dataset.augment.mirror]
    assert all((part is not None) == expected for part in [*parts, dataset.augment.photometric])
    assert set(map(type, [*data.class_names, data.image_sets["train"]])) == {str}, "plain values, no config containers"
