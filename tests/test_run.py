import errno
import json

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from crossview.run import train
from crossview.user_errors import UserError
from tests.data.make_voc import ANNOTATIONS, IMAGES, write_pair_dataset
from tests.tiny import quiet_trainer, tiny_config, tiny_module

FAST = ["trainer.fast_dev_run=true", "callbacks=none", "logger=none", "data.batch_size=2"]


def refusal(root, run_dir, *overrides):
    """What a user is told; nothing may be left in the run folder."""
    with pytest.raises(UserError) as caught:
        train(tiny_config(*FAST, f"data.root={root}", f"run_dir={run_dir}", *overrides))
    assert caught.value.__cause__ is not None or "found no file" in str(caught.value)
    assert not (run_dir / "metrics.json").exists()
    return str(caught.value)


# --- what a user is told ---


@pytest.mark.parametrize(("backbone", "said"), [([], True), (["ckpt=CKPT"], False)])
def test_a_random_start_is_said(backbone, said, pair_root, tmp_path, caplog):
    torch.save({"state_dict": tiny_module().state_dict()}, tmp_path / "some.ckpt")
    own = [text.replace("CKPT", str(tmp_path / "some.ckpt")) for text in backbone]
    with caplog.at_level("INFO", logger="crossview"):
        train(tiny_config(*FAST, f"data.root={pair_root}", f"run_dir={tmp_path}", *own))
    assert ("VGG16 starts at random" in caplog.text) is said


REFUSALS = [
    (["ckpt=nowhere.ckpt"], ["ckpt: found no file nowhere.ckpt", "checkpoints/best.ckpt"]),
    (["model.backbone.weights=nowhere.h5"], ["nowhere.h5"]),  # a DataError while the model is made
    (["model.anchors.scales=[0.1]"], ["model.anchors: anchors.scales: found 1 values, need 7"]),
    (["data.batch_size=0"], ["data.batch_size is 0", "full_key: data"]),
    (["data.boxes_outside=maybe"], ["boxes_outside", "maybe"]),
    (["data.train_set=trian"], ["trian"]),  # a DataError while the data is read
    (["optimizer.lr=-1"], ["optimizer: Invalid learning rate: -1"]),
    (["+optimizer.momentun=0.9"], ["optimizer: ", "momentun"]),
    (["scheduler.schedule.warmup=7"], ["scheduler.schedule: ", "7"]),
    (["trainer.accelerator=abacus"], ["abacus"]),  # Lightning's own check
    (["+trainer.epochs=3"], ["epochs", "full_key: trainer"]),
    (["+model.widht=3"], ["widht", "full_key: model"]),
    (["model.class_names=${nowhere}"], ["nowhere"]),
]


@pytest.mark.parametrize(("overrides", "words"), REFUSALS, ids=[overrides[0] for overrides, _ in REFUSALS])
def test_what_is_wrong_is_said_in_a_few_lines(overrides, words, pair_root, tmp_path):
    said = refusal(pair_root, tmp_path, *overrides)
    for word in words:
        assert word in said
    assert len(said.splitlines()) <= 6, said
    assert "Traceback" not in said


def test_a_run_folder_is_made(pair_root, tmp_path):
    run_dir = tmp_path / "new" / "run"
    train(tiny_config(*FAST, f"data.root={pair_root}", f"run_dir={run_dir}"))
    assert (run_dir / "metrics.json").is_file()


def test_a_run_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"run_dir: .*file/run cannot be made or written to \(Not a directory\)"):
        train(tiny_config(*FAST, "data.root=nowhere", f"run_dir={tmp_path}/file/run"))


def test_a_run_folder_without_space_is_refused_before_the_work(tmp_path, monkeypatch):
    def full(**settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(UserError, match=r"run_dir: .*cannot be made or written to \(No space left on device\)"):
        train(tiny_config(*FAST, "data.root=nowhere", f"run_dir={tmp_path}"))


def break_xml(root):
    path = root / ANNOTATIONS / "train000_z1.xml"
    path.write_text("<annotation><object></annotation>")
    return path.name


def truncate_image(root):
    path = root / IMAGES / "train000_z1.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    return path.name


def forget_folder(root):
    (root / IMAGES).rename(root / "Bilder")
    return "Images"


@pytest.mark.parametrize("workers", [0, 1])  # what a loader's process raises comes wrapped in its traceback
@pytest.mark.parametrize("damage", [break_xml, truncate_image, forget_folder])
def test_faults_in_the_data_are_said_as_they_are(damage, workers, tmp_path):
    root = write_pair_dataset(tmp_path / "data", pairs=1)
    name = damage(root)
    said = refusal(root, tmp_path / "run", f"data.num_workers={workers}")
    assert name in said
    assert "Traceback" not in said
    assert "Caught DataError" not in said


def test_a_metric_that_does_not_exist_is_refused_with_those_that_do(pair_root, tmp_path):
    settings = ["trainer.fast_dev_run=false", "trainer.max_epochs=1", "callbacks=default", "callbacks.pictures=null"]
    said = refusal(pair_root, tmp_path, *settings, "callbacks.progress=null", "monitor=val/ap")
    assert "val/ap" in said
    assert "val/cross/ap50" in said


# --- the best checkpoint ---


def checkpoint_used_by_test(root, run_dir, monkeypatch, *overrides):
    """The best value, and the checkpoint that `trainer.test` is told to use."""
    import pytorch_lightning as pl

    used = []
    test = pl.Trainer.test

    def remember(self, model=None, ckpt_path=None, **settings):
        used.append(ckpt_path)
        return test(self, model, ckpt_path=ckpt_path, **settings)

    monkeypatch.setattr(pl.Trainer, "test", remember)
    settings = ["callbacks.pictures=null", "callbacks.progress=null", "logger=none", "trainer.max_epochs=1"]
    best = train(tiny_config(*settings, f"data.root={root}", f"run_dir={run_dir}", "data.batch_size=4", *overrides))
    return best, used


def test_the_best_checkpoint_is_tested(pair_root, tmp_path, monkeypatch):
    overrides = ["monitor=val/loss/total", "monitor_mode=min"]
    best, used = checkpoint_used_by_test(pair_root, tmp_path, monkeypatch, *overrides)
    assert used == [str(tmp_path / "checkpoints/best.ckpt")]
    assert best == pytest.approx(json.loads((tmp_path / "metrics.json").read_text())["val/loss/total"])


def test_without_a_number_to_compare_the_last_weights_are_tested(tmp_path, monkeypatch, caplog):
    root = write_pair_dataset(tmp_path / "data", pairs=2, objects=0)
    best, used = checkpoint_used_by_test(root, tmp_path / "run", monkeypatch)
    assert best is None
    assert used == [None]
    assert "monitor=val/detection/ap50" in caplog.text
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()


def test_nothing_is_tested_if_not_wanted(pair_root, tmp_path, monkeypatch):
    _, used = checkpoint_used_by_test(pair_root, tmp_path, monkeypatch, "test=false")
    assert used == []
    assert "test/loss/total" not in json.loads((tmp_path / "metrics.json").read_text())


def test_lightning_still_ranks_nan_as_infinitely_bad():
    # What `_best_score` relies on.
    checkpoint = ModelCheckpoint(monitor="x", mode="max")
    trainer = quiet_trainer(callbacks=[checkpoint], enable_checkpointing=True)
    assert trainer.checkpoint_callback is checkpoint
    assert checkpoint.best_model_score is None
