"""Going on with a run, as a user does it."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from crossview.command import CONFIG_DIR
from crossview.resume import resumed
from crossview.run import train
from crossview.user_errors import UserError
from tests.conftest import SMALL_MODELS, command_environment
from tests.data.make_voc import write_pair_dataset
from tests.tiny import tiny_config

TIME_LIMIT_S = 240
QUIET = ["callbacks.pictures=null", "callbacks.progress=null", "callbacks.summary=null", "logger.tensorboard=null"]
EXACT = ["trainer.deterministic=true", "trainer.log_every_n_steps=1", "callbacks.last.every_n_steps=2"]
SMALL = [
    "model=ssd7",
    *SMALL_MODELS["ssd7"],
    "data.image_size=[96,192]",
    "data/augment=panorama",
    "data.batch_size=1",
    "data.num_workers=1",
    "trainer.max_epochs=2",
    *QUIET,
    *EXACT,
]


def command(*arguments, cwd):
    call = [sys.executable, "-m", "crossview.train", *arguments]
    environment = command_environment(cwd / "cache")
    return subprocess.run(
        call, cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
    )


def sudden_end(name, step, number, folder):
    entry = f"_target_:tests.sudden_end.SuddenEnd,step:{step},signal:{int(number)},marker:{folder}/{name}"
    return f"+callbacks.{name}={{{entry}}}"


def rows(run_dir):
    with (run_dir / "metrics.csv").open(newline="") as file:
        return sorted(tuple(sorted((k, v) for k, v in row.items() if v)) for row in csv.DictReader(file))


def test_a_run_that_was_stopped_and_killed_ends_as_one_that_was_not(tmp_path):
    data = write_pair_dataset(tmp_path / "data", pairs={"train": 5, "val": 2, "test": 1})
    settings = [*SMALL, f"data.root={data}"]
    whole = command(*settings, "hydra.run.dir=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr

    ends = [sudden_end("stop", 3, signal.SIGTERM, tmp_path), sudden_end("kill", 8, signal.SIGKILL, tmp_path)]
    stopped = command(*settings, *ends, "hydra.run.dir=run", cwd=tmp_path)
    assert stopped.returncode == 143, stopped.stderr
    assert f"SIGTERM ended the run. Go on with: python -m crossview.train resume={tmp_path}/run" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    config = (tmp_path / "run/.hydra/config.yaml").read_text()

    killed = command("resume=run", cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 6

    done = command("resume=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "Run folder: run"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "data", "kill", "run", "stop", "whole"]
    assert (tmp_path / "run/.hydra/config.yaml").read_text() == config
    for name in ("best.ckpt", "last.ckpt"):
        one, other = (torch.load(tmp_path / run / "checkpoints" / name, weights_only=True) for run in ("whole", "run"))
        assert one["global_step"] == other["global_step"]
        for key, value in one["state_dict"].items():
            assert torch.equal(value, other["state_dict"][key]), key
        assert str(one["lr_schedulers"]) == str(other["lr_schedulers"])
    assert (tmp_path / "whole/metrics.json").read_text() == (tmp_path / "run/metrics.json").read_text()
    missing = set(rows(tmp_path / "whole")) - set(rows(tmp_path / "run"))
    assert len(missing) <= 1  # of the step of the checkpoint, killed before it was on the disk
    assert len(rows(tmp_path / "run")) == len(set(rows(tmp_path / "run")))


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run of one step, with what the command leaves beside it."""
    folder = tmp_path_factory.mktemp("ended")
    data = write_pair_dataset(folder / "data", pairs=1)
    settings = ["scheduler=constant", "test=false", f"data.root={data}", f"run_dir={folder}/run"]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", [*SMALL, *settings, "data.num_workers=0", "trainer.max_epochs=1"])
    (folder / "run/.hydra").mkdir(parents=True)
    OmegaConf.save(config, folder / "run/.hydra/config.yaml")
    train(config)
    torch.use_deterministic_algorithms(False)
    return folder / "run"


@pytest.fixture
def run_dir(ended, tmp_path):
    """A copy of it, as if the folder had moved."""
    return Path(shutil.copytree(ended, tmp_path / "run"))


def refusal(run_dir, *overrides):
    """What a user is told; the folder must be as before."""
    before = contents(run_dir)
    with pytest.raises(UserError) as caught:
        resumed(tiny_config(f"resume={run_dir}", *overrides), overrides)
    assert contents(run_dir) == before
    return str(caught.value)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_can_be_made_longer_unless_its_schedule_ends(run_dir):
    overrides = ["trainer.max_epochs=2"]
    config = resumed(tiny_config(f"resume={run_dir}", *overrides), overrides)
    assert config.trainer.max_epochs == 2
    assert config.run_dir == str(run_dir)
    # Kept, for when this one is killed too; nothing else in the file changes.
    saved = OmegaConf.load(run_dir / ".hydra/config.yaml")
    assert saved.trainer.max_epochs == 2
    assert saved.resume is None
    train(tiny_config(f"resume={run_dir}"))
    torch.use_deterministic_algorithms(False)
    assert torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 1
    assert "val/loss/total" in json.loads((run_dir / "metrics.json").read_text())
    steps = [int(dict(row)["step"]) for row in rows(run_dir) if "train/loss/total" in dict(row)]
    assert steps == [0, 1]


def test_a_finished_run_keeps_its_metrics(run_dir):
    before = (run_dir / "metrics.json").read_text()
    (run_dir / "metrics.json").unlink()
    train(tiny_config(f"resume={run_dir}"))
    torch.use_deterministic_algorithms(False)
    assert (run_dir / "metrics.json").read_text() == before


ANOTHER_RUN = ["optimizer.lr=1", "seed=3", "scheduler=constant", "data.batch_size=2", "ckpt=some.ckpt"]


@pytest.mark.parametrize("override", ANOTHER_RUN)
def test_what_would_make_another_run_of_it_is_refused(override, run_dir):
    said = refusal(run_dir, override)
    assert override.partition("=")[0] in said
    assert "trainer.max_epochs" in said


def test_another_command_does_not_touch_the_folder(run_dir, tmp_path):
    before = contents(run_dir)
    done = command(f"hydra.run.dir={run_dir}", "optimizer.lr=1", cwd=tmp_path)
    assert done.returncode == 1
    assert f"hydra.run.dir: {run_dir} has the checkpoints of an earlier run" in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(run_dir) == before


def test_another_run_does_not_write_over_this_one(run_dir):
    before = (run_dir / "checkpoints/last.ckpt").read_bytes()
    with pytest.raises(UserError, match=rf"hydra\.run\.dir: {run_dir} has the checkpoints .* resume={run_dir} goes on"):
        train(tiny_config(f"run_dir={run_dir}"))
    assert (run_dir / "checkpoints/last.ckpt").read_bytes() == before


def test_a_missing_folder_is_said(tmp_path):
    said = refusal(tmp_path / "nowhere")
    assert "found no folder" in said
    assert not (tmp_path / "nowhere").exists()


def forget_config(run_dir):
    shutil.rmtree(run_dir / ".hydra")


def forget_checkpoint(run_dir):
    (run_dir / "checkpoints/last.ckpt").unlink()


def cut_off(run_dir):
    path = run_dir / "checkpoints/last.ckpt"
    path.write_bytes(path.read_bytes()[:-1000])


def weights_only(run_dir):
    path = run_dir / "checkpoints/last.ckpt"
    torch.save({"state_dict": torch.load(path, weights_only=True)["state_dict"]}, path)


def break_config(run_dir):
    (run_dir / ".hydra/config.yaml").write_text("model: [")


def other_config(run_dir):
    (run_dir / ".hydra/config.yaml").write_text("out: streets\n")


class Code:
    def __reduce__(self):
        return os.mkdir, ("made_by_a_checkpoint",)


def put_code(run_dir):
    torch.save({"state_dict": Code()}, run_dir / "checkpoints/last.ckpt")


FAULTS = [
    (forget_config, "has no .hydra/config.yaml"),
    (forget_checkpoint, "has no checkpoints/last.ckpt"),
    (cut_off, "last.ckpt is not a checkpoint of a training run"),
    (weights_only, "not the state of a run"),
    (break_config, "config.yaml is damaged"),
    (other_config, "is not the config of a training"),
    (put_code, "last.ckpt is not a checkpoint of a training run"),
]


@pytest.mark.parametrize(("damage", "words"), FAULTS, ids=[damage.__name__ for damage, _ in FAULTS])
def test_faults_of_the_folder_are_said(damage, words, run_dir, monkeypatch):
    monkeypatch.chdir(run_dir.parent)
    damage(run_dir)
    said = refusal(run_dir)
    assert words in said
    assert said.startswith("resume: ")
    assert not Path("made_by_a_checkpoint").exists()


def test_a_folder_that_cannot_be_written_is_said(run_dir, monkeypatch):
    def refuse(**settings):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert f"{run_dir} cannot be written: Read-only file system" in refusal(run_dir)


def test_a_disk_that_becomes_full_ends_the_run_with_the_earlier_checkpoint(run_dir, monkeypatch):
    resumed(tiny_config(f"resume={run_dir}", "trainer.max_epochs=3"), ["trainer.max_epochs=3"])
    before = (run_dir / "checkpoints/last.ckpt").read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="No space left on device"):
            train(tiny_config(f"resume={run_dir}"))
    torch.use_deterministic_algorithms(False)
    assert (run_dir / "checkpoints/last.ckpt").read_bytes() == before


def test_the_command_says_it_without_a_traceback_or_a_new_folder(tmp_path):
    done = command("resume=nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert "resume: found no folder nowhere" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "nowhere").exists()
