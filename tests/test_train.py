"""The command as a user runs it: what it leaves behind, what it says, what it refuses."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from crossview.command import CONFIG_DIR
from crossview.module import CrossViewModule
from tests.conftest import SMALL_MODELS, TINY, command_environment
from tests.data.make_voc import write_pair_dataset

TIME_LIMIT_S = 240


def run(*arguments, cwd, env):
    command = [sys.executable, "-m", "crossview.train", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pair_root):
    """One training of two epochs, shared by the tests that look at what it left."""
    folder = tmp_path_factory.mktemp("work")
    overrides = [*TINY, f"data.root={pair_root}", "data.batch_size=2", "trainer.max_epochs=2"]
    done = run(*overrides, cwd=folder, env=command_environment(folder / "cache"))
    assert done.returncode == 0, done.stderr
    return folder, done


def test_last_line_names_the_run_folder(finished):
    folder, done = finished
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("Run folder: ")
    run_dir = folder / last.removeprefix("Run folder: ")
    assert run_dir.parent == folder / "outputs" / "train"
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "metrics.json", "metrics.csv", ".hydra/config.yaml"):
        assert (run_dir / name).is_file(), name
    assert list((run_dir / "tensorboard").glob("events.*"))
    assert len(list((run_dir / "pictures").glob("*.jpg"))) == 4  # 2 pairs, 2 epochs


def test_the_console_tells_the_numbers_of_the_test_once(finished):
    folder, done = finished
    lines = done.stdout.strip().splitlines()
    metrics = json.loads((folder / lines[-1].removeprefix("Run folder: ") / "metrics.json").read_text())
    for name in ("test/detection/ap50", "test/cross/ap50"):
        (told,) = (line.split() for line in lines if name in line.split())
        assert told[-1] == ("nan" if metrics[name] is None else f"{metrics[name]:.4f}")


def test_metrics_are_flat_and_named_as_documented(finished):
    folder, _ = finished
    metrics = json.loads(next(folder.glob("outputs/train/*/metrics.json")).read_text())
    terms = ["total", "view_1", "view_2", "view_1_to_2", "view_2_to_1", "reid"]
    names = ["detection/ap50", "detection/voc07_ap", "cross/ap50", "cross/geometry_ap50", "cross/center_px"]
    for split in ("val", "test"):
        for name in [*names, *(f"loss/{term}" for term in terms)]:
            assert f"{split}/{name}" in metrics
        assert metrics[f"{split}/loss/total"] == pytest.approx(
            sum(metrics[f"{split}/loss/{term}"] * (0.25 if term == "reid" else 1.0) for term in terms[1:]), rel=1e-5
        )


def test_checkpoint_is_plain_data_and_loads_without_arguments(finished):
    folder, _ = finished
    path = next(folder.glob("outputs/train/*/checkpoints/best.ckpt"))
    torch.load(path, weights_only=True)
    module = CrossViewModule.load_from_checkpoint(path)
    assert list(module.hparams["class_names"]) == ["tree"]


def test_fine_tuning_starts_from_a_checkpoint(finished, pair_root, tmp_path, run_environment):
    folder, _ = finished
    path = next(folder.glob("outputs/train/*/checkpoints/best.ckpt"))
    arguments = [*TINY, f"data.root={pair_root}", f"ckpt={path}", "trainer.max_epochs=1", "optimizer.lr=0"]
    done = run(*arguments, f"hydra.run.dir={tmp_path}/tuned", "test=false", cwd=tmp_path, env=run_environment)
    assert done.returncode == 0, done.stderr
    before, after = (
        torch.load(file, weights_only=True)["state_dict"] for file in (path, tmp_path / "tuned/checkpoints/last.ckpt")
    )
    weights = "net.detector.backbone.conv1_1.weight"
    assert torch.equal(before[weights], after[weights])


def test_help_fits_a_screen(tmp_path, run_environment):
    done = run("--help", cwd=tmp_path, env=run_environment)
    assert done.returncode == 0
    for word in ("data.root=DIR", "trainer: cpu", "scheduler: constant, one_cycle, steps", "--cfg job"):
        assert word in done.stdout
    assert len(done.stdout.splitlines()) < 50
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_help_answers_at_once(run_environment):
    code = (
        "import crossview.train, sys; sys.exit(bool({'torch', 'pytorch_lightning', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=run_environment, check=False).returncode == 0


# What the messages say is tested in test_run.py; here, how the command says it.
BAD_CALLS = [
    (["optimizer.learning_rate=1"], ["learning_rate", "optimizer has betas, eps, lr"]),  # a misspelled key
    (["modell=ssd300"], ["modell", "did you mean model?"]),  # a misspelled group
    (["model=ssd301"], ["ssd301", "ssd300"]),  # no such choice: lists those that exist
    (["data.root=nowhere"], ["data.root", "nowhere"]),  # bad data
    (["model.loss.weights.view_3=1"], ["view_3"]),  # a key of a mapping
    (["ckpt=nowhere.ckpt"], ["nowhere.ckpt"]),
    (["matcher.size_sigma=0"], ["size_sigma"]),  # needed after the training only
]


@pytest.mark.parametrize(("overrides", "words"), BAD_CALLS, ids=[overrides[0] for overrides, _ in BAD_CALLS])
def test_bad_calls_fail_without_a_traceback(overrides, words, pair_root, tmp_path, run_environment):
    done = run(*TINY, f"data.root={pair_root}", *overrides, cwd=tmp_path, env=run_environment)
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_the_traceback_is_shown_to_who_asks_for_it(pair_root, tmp_path, run_environment):
    environment = {**run_environment, "HYDRA_FULL_ERROR": "1"}
    done = run(*TINY, f"data.root={pair_root}", "ckpt=nowhere.ckpt", cwd=tmp_path, env=environment)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "found no file nowhere.ckpt" in done.stderr


def test_one_failed_job_does_not_end_a_sweep(pair_root, tmp_path, run_environment):
    arguments = ["-m", "optimizer.lr=-1,1e-4", "trainer.fast_dev_run=true", f"hydra.sweep.dir={tmp_path}/sweep"]
    done = run(*arguments, *TINY, f"data.root={pair_root}", cwd=tmp_path, env=run_environment)
    assert done.returncode == 1, done.stderr
    assert "Invalid learning rate" in done.stderr
    assert sorted(path.parent.name for path in (tmp_path / "sweep").glob("*/metrics.json")) == ["1"]
    failed, ok = csv.DictReader((tmp_path / "sweep/sweep.csv").read_text().splitlines())
    assert (failed["status"], ok["status"]) == ("failed", "ok")
    assert "Invalid learning rate" in failed["error"]


def test_the_ready_search_runs(pair_root, tmp_path, run_environment):
    arguments = ["-m", "experiment=search", "hydra.sweeper.n_trials=2", f"hydra.sweep.dir={tmp_path}/sweep", *TINY]
    small = [f"data.root={pair_root}", "trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1"]
    done = run(*arguments, *small, cwd=tmp_path, env=run_environment)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "sweep/sweep.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert all(0 <= float(row["metric"]) <= 1 for row in rows)
    assert {"optimizer.lr", "data/augment", "projection"} <= set(rows[0])
    for name in ("sweep.png", "study.db", "1/checkpoints/best.ckpt"):
        assert (tmp_path / "sweep" / name).is_file()


def test_the_ready_ablation_runs_every_variant_and_collects_them_in_one_table(pair_root, tmp_path, run_environment):
    arguments = ["-m", "experiment=ablation", f"data.root={pair_root}", f"hydra.sweep.dir={tmp_path}/sweep"]
    small = ["model=ssd7", *SMALL_MODELS["ssd7"], "data.image_size=[96,192]", "data.batch_size=1", "data.num_workers=0"]
    quick = ["trainer.fast_dev_run=true", "data/augment=none", "callbacks=none", "logger=none"]
    done = run(*arguments, *small, *quick, cwd=tmp_path, env=run_environment)
    assert done.returncode == 0, done.stderr
    rows = {row["ablation"]: row for row in csv.DictReader((tmp_path / "sweep/sweep.csv").read_text().splitlines())}
    assert list(rows) == sorted(file.stem for file in (CONFIG_DIR / "ablation").glob("*.yaml"))
    assert {row["status"] for row in rows.values()} == {"ok"}
    for name in ("detection/ap50", "cross/ap50", "cross/network_ap50", "cross/geometry_ap50", "reid/f1"):
        assert all(0 <= float(row[f"test/{name}"]) <= 1 for row in rows.values()), name
    assert (tmp_path / "sweep/sweep.png").is_file()


@pytest.mark.parametrize("objects", [0, 1], ids=["no objects at all", "one object, in the first view only"])
def test_pairs_without_shared_objects_train(objects, tmp_path, run_environment):
    root = write_pair_dataset(tmp_path / "data", pairs=2, objects=objects)
    arguments = [*TINY, f"data.root={root}", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}/run"]
    done = run(*arguments, cwd=tmp_path, env=run_environment)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["test/cross/ap50"] is None  # there was nothing to find
    assert np.isfinite(metrics["train/loss/total"])
