"""Runs that end at any of their checkpoints go on as if they had not; a small network without images shows it."""

import csv
import shutil
import signal
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch.utils.data import DataLoader

from crossview import checkpoint_io
from crossview.build import ConfigError
from crossview.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from crossview.checkpoint_io import SafeCheckpointIO
from crossview.csv_log import RunCSVLogger, forget_after
from crossview.data.loader import TrainLoader
from crossview.data.sampling import TrainSampler
from crossview.files import write_whole
from crossview.schedules import one_cycle
from crossview.signals import Stopped, watch

SAMPLES, BATCH = 10, 2  # 5 batches an epoch


class Numbers(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Samples that depend on the epoch, as augmented images do."""

    def __len__(self):
        return SAMPLES

    def __getitem__(self, key):
        epoch, index = key
        return torch.randn(3, generator=torch.Generator().manual_seed(1000 * epoch + index)), epoch, index


class Small(pl.LightningModule):
    """A linear layer, with draws from the random numbers of the training as dropout makes them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1)
        self.seen: list[tuple[int, list[int]]] = []
        self.validated: list[int] = []
        self.rates: list[float] = []

    def training_step(self, batch, batch_idx):
        values, epochs, indices = batch
        self.seen.append((int(epochs[0]), indices.tolist()))
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        loss = (self.layer(torch.nn.functional.dropout(values)) - 1).square().mean()
        self.log("train/loss", loss.detach())
        return loss

    def validation_step(self, batch, batch_idx):
        if batch_idx == 0:
            self.validated.append(self.trainer.global_step)
        self.log("val/loss", (self.layer(batch) - 1).square().mean(), batch_size=len(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        schedule = one_cycle(optimizer, self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self):
        return TrainLoader(
            Numbers(),
            batch_size=BATCH,
            sampler=TrainSampler(range(SAMPLES), seed=0),
            generator=torch.Generator(),
        )

    def val_dataloader(self):
        values = torch.linspace(-1, 1, 12).reshape(4, 3)
        return DataLoader(list(values), batch_size=2, generator=torch.Generator())  # type: ignore[arg-type]


def fit(folder, *callbacks, resume=False, every_n_steps=2, module=None, **settings):
    """Trains in a folder, or goes on there."""
    checkpoints = folder / "checkpoints"
    last = LastCheckpoint(str(checkpoints), every_n_steps)
    best = BestCheckpoint(
        str(checkpoints), filename="best", monitor="val/loss", mode="min", enable_version_counter=False
    )
    state = None
    if resume:
        state = str(checkpoints / "last.ckpt")
        kept = torch.load(state, weights_only=True)["callbacks"]["LastCheckpoint"]
        forget_after(folder / "metrics.csv", kept["log_step"], kept["validation_is_due"])
    trainer = pl.Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 2,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            **settings,
        },
        logger=RunCSVLogger(continues=state, save_dir=str(folder), name="", version=""),
        callbacks=[best, last, *callbacks],
        plugins=[SafeCheckpointIO()],
    )
    module = Small() if module is None else module
    torch.manual_seed(5)
    trainer.fit(module, ckpt_path=state, weights_only=True)
    return trainer, module


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return sorted(tuple(sorted((k, v) for k, v in row.items() if v)) for row in csv.DictReader(file))


@pytest.fixture
def snapshots(tmp_path, monkeypatch):
    """Copies of the run folder right after each writing of ``last.ckpt``, as a SIGKILL there would leave it."""
    copies: list[Path] = []

    def write(path, content):
        write_whole(path, content)
        if path.name == "last.ckpt":
            copies.append(tmp_path / f"copy_{len(copies):02d}")
            shutil.copytree(path.parents[1], copies[-1])

    monkeypatch.setattr(checkpoint_io, "write_whole", write)
    return copies


WAYS = [
    {"every_n_steps": 1},
    {"val_check_interval": 0.5},  # validations in the middle of an epoch, and none at its end
    {"check_val_every_n_epoch": None, "val_check_interval": 3},
    {"check_val_every_n_epoch": 2, "limit_train_batches": 4},
    {"accumulate_grad_batches": 2, "every_n_steps": 1},
    {"max_steps": 8, "max_epochs": -1},
    {"limit_val_batches": 0},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_run_goes_on_from_every_checkpoint_as_if_it_had_not_ended(way, tmp_path, snapshots):
    whole, module = fit(tmp_path / "run", **way)
    copies = list(snapshots)
    assert len(copies) > 3
    final = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    for copy in copies:
        saved = torch.load(copy / "checkpoints/last.ckpt", weights_only=True)
        seen = saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"]
        place = f"step {saved['global_step']}, {saved['callbacks']['LastCheckpoint']['validation_is_due']}"
        trainer, resumed = fit(copy, resume=True, **way)
        assert resumed.seen == module.seen[seen:], place
        assert resumed.rates == module.rates[seen:], place
        assert resumed.validated == module.validated[len(module.validated) - len(resumed.validated) :], place
        assert torch.equal(resumed.layer.weight, module.layer.weight), place
        assert trainer.global_step == whole.global_step, place
        assert trainer.checkpoint_callback.best_model_score == whole.checkpoint_callback.best_model_score, place
        if resumed.seen:
            assert trainer.current_epoch == whole.current_epoch, place
            again = torch.load(copy / "checkpoints/last.ckpt", weights_only=True)
            for key, progress in final["loops"]["fit_loop"].items():
                if "val_loop" not in key and key != "state_dict":
                    assert again["loops"]["fit_loop"][key] == progress, f"{place}: {key}"
        # The metrics of the batch of the checkpoint itself are logged after it.
        missing = set(rows(tmp_path / "run")) - set(rows(copy))
        assert len(missing) <= 1, place
        assert not set(rows(copy)) - set(rows(tmp_path / "run")), place
        assert len(rows(copy)) == len(set(rows(copy))), place


def test_a_folder_that_moved_keeps_its_best_checkpoint(tmp_path, snapshots):
    whole, _ = fit(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    trainer, _ = fit(snapshots[-1], resume=True)
    assert trainer.checkpoint_callback.best_model_path == str(snapshots[-1] / "checkpoints/best.ckpt")
    assert trainer.checkpoint_callback.best_model_score == whole.checkpoint_callback.best_model_score
    state = torch.load(snapshots[-1] / "checkpoints/last.ckpt", weights_only=True)["callbacks"]
    assert str(tmp_path) not in str(state)


@pytest.mark.parametrize("patience", [0, 1])
def test_a_run_that_stopped_early_does_not_start_again(patience, tmp_path):
    def patient():  # the loss falls, so that this is soon over, without patience in the first epoch
        return EarlyStopping("val/loss", patience=patience, mode="max")

    trainer, _ = fit(tmp_path, patient(), max_epochs=8)
    assert trainer.current_epoch < 8
    again, module = fit(tmp_path, patient(), max_epochs=8, resume=True)
    assert module.seen == []
    assert again.current_epoch == trainer.current_epoch


def test_a_run_does_not_go_beyond_its_schedule(tmp_path):
    fit(tmp_path, max_epochs=1)
    before = (tmp_path / "checkpoints/last.ckpt").read_bytes()
    with pytest.raises(ConfigError, match="planned for at most 6 steps, now it shall be 15"):
        fit(tmp_path, max_epochs=3, resume=True)
    assert (tmp_path / "checkpoints/last.ckpt").read_bytes() == before


class Send(pl.Callback):
    """Sends this process a signal in the middle of a training, validation or epoch."""

    def __init__(self, number, hook, step):
        def send(trainer, *_):
            if trainer.global_step == step:
                signal.raise_signal(number)

        setattr(self, hook, send)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("hook", "step"),
    [
        ("on_train_batch_end", 3),
        ("on_validation_batch_start", 5),
        ("on_train_epoch_end", 5),
        ("on_train_epoch_end", 10),
    ],
)
def test_a_signal_saves_and_ends_the_run(number, hook, step, tmp_path):
    _, module = fit(tmp_path / "whole", every_n_steps=None)
    earlier = signal.getsignal(number)
    stopped = Small()
    with pytest.raises(Stopped) as caught, watch.watching():
        fit(tmp_path / "run", Send(number, hook, step), every_n_steps=None, module=stopped)
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) == earlier
    _, resumed = fit(tmp_path / "run", every_n_steps=None, resume=True)
    assert stopped.seen + resumed.seen == module.seen
    assert torch.equal(resumed.layer.weight, module.layer.weight)
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


@pytest.mark.parametrize("every_n_steps", [0, -1])
def test_numbers_that_make_no_sense_are_refused(every_n_steps, tmp_path):
    with pytest.raises(ValueError, match=r"callbacks\.last\.every_n_steps"):
        LastCheckpoint(str(tmp_path), every_n_steps)
