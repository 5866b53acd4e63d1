"""The command as a user runs it: what it leaves behind, what it says, what it refuses."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from crossview.module import CrossViewModule
from tests.conftest import TINY
from tests.data.make_voc import ANNOTATIONS, IMAGES, write_pair_dataset

TIME_LIMIT_S = 240


def run(*arguments, cwd, env):
    command = [sys.executable, "-m", "crossview.train", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pair_root):
    """One training of two epochs, shared by the tests that look at what it left."""
    import os

    folder = tmp_path_factory.mktemp("work")
    env = {**os.environ, "CROSSVIEW_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = run(*TINY, f"data.root={pair_root}", "data.batch_size=2", "trainer.max_epochs=2", cwd=folder, env=env)
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
    assert len(list((run_dir / "pictures").glob("*.jpg"))) == 8  # 2 pairs, 2 epochs, validated twice each


def test_metrics_are_flat_and_named_as_documented(finished):
    folder, _ = finished
    metrics = json.loads(next(folder.glob("outputs/train/*/metrics.json")).read_text())
    terms = ["total", "view_1", "view_2", "view_1_to_2", "view_2_to_1"]
    names = ["detection/ap50", "detection/voc07_ap", "cross/ap50", "cross/geometry_ap50", "cross/center_px"]
    for split in ("val", "test"):
        for name in [*names, *(f"loss/{term}" for term in terms)]:
            assert f"{split}/{name}" in metrics
        assert metrics[f"{split}/loss/total"] == pytest.approx(
            sum(metrics[f"{split}/loss/{term}"] for term in terms[1:]), rel=1e-5
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


def break_xml(root):
    path = root / ANNOTATIONS / "train000_z1.xml"
    path.write_text("<annotation><object></annotation>")
    return [path.name]


def truncate_image(root):
    path = root / IMAGES / "train000_z1.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    return [path.name]


def forget_folder(root):
    (root / IMAGES).rename(root / "Bilder")
    return ["Images"]


BAD_DATA = [break_xml, truncate_image, forget_folder]
BAD_CONFIG = [
    (["optimizer.learning_rate=1"], ["learning_rate"]),  # a misspelled key
    (["modell=ssd300"], ["modell"]),  # a misspelled group
    (["model=ssd301"], ["ssd301", "ssd300"]),  # no such choice: lists those that exist
    (["model.loss.weights.view_3=1"], ["view_3"]),  # an unknown loss term
    (["model.anchors.scales=[0.1,0.2]"], ["anchors.scales", "7"]),  # lists that do not fit
    (["ckpt=nowhere.ckpt"], ["nowhere.ckpt"]),
    (["model.backbone.weights=nowhere.h5"], ["nowhere.h5"]),
    (["data.root=nowhere"], ["data.root", "nowhere"]),
    (["data.train_set=trian"], ["trian", "train"]),
]


@pytest.mark.parametrize("damage", BAD_DATA)
def test_bad_data_is_named_without_a_traceback(damage, tmp_path, run_environment):
    root = write_pair_dataset(tmp_path / "data", pairs=2)
    words = damage(root)
    done = run(*TINY, f"data.root={root}", cwd=tmp_path, env=run_environment)
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("overrides", "words"), BAD_CONFIG)
def test_bad_config_is_named_without_a_traceback(overrides, words, pair_root, tmp_path, run_environment):
    done = run(*TINY, f"data.root={pair_root}", *overrides, cwd=tmp_path, env=run_environment)
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("objects", [0, 1], ids=["no objects at all", "one object, in the first view only"])
def test_pairs_without_shared_objects_train(objects, tmp_path, run_environment):
    root = write_pair_dataset(tmp_path / "data", pairs=2, objects=objects)
    arguments = [*TINY, f"data.root={root}", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}/run"]
    done = run(*arguments, cwd=tmp_path, env=run_environment)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["test/cross/ap50"] is None  # there was nothing to find
    assert np.isfinite(metrics["train/loss/total"])


def test_two_processes_train_as_one_job(pair_root, tmp_path, run_environment):
    arguments = [*TINY, f"data.root={pair_root}", "trainer=ddp_cpu", "trainer.devices=2", "trainer.max_epochs=1"]
    done = run(*arguments, "data.batch_size=1", f"hydra.run.dir={tmp_path}/run", cwd=tmp_path, env=run_environment)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/metrics.json").read_text())["test/loss/total"] > 0
    assert not (tmp_path / "outputs").exists()  # the second process has made no folder of its own
