"""Own checkpoints into other networks, through the function and through the config."""

import pytest
import torch
from torch import nn

from crossview.build import ConfigError
from crossview.data.errors import DataError
from crossview.detector.preprocessing import Preprocessing
from crossview.detector.ssd import SSD
from crossview.detector.transfer.load import ClassChoice, load_detector_weights
from crossview.detector.transfer.readers import read_trained_file
from crossview.initial_weights import initialise, load_network_weights
from crossview.run import train
from crossview.user_errors import UserError
from tests.detector.transfer.make_weights import random_images, tiny_ssd, write_pytorch
from tests.tiny import quiet_trainer, tiny_config, tiny_module


class SingleNetwork(nn.Module):
    """Stands for the network of one view, which has a detector and nothing else."""

    def __init__(self, detector: SSD):
        super().__init__()
        self.detector = detector


def trained(*overrides):
    """A module whose every weight is random, as after training."""
    module = tiny_module(*overrides)
    torch.manual_seed(11)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def save(module, path):
    """A checkpoint as Lightning writes it."""
    trainer = quiet_trainer()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path, weights_only=True)
    return path


def save_single(detector, path, class_names):
    state = {f"net.detector.{name}": value for name, value in detector.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": {"class_names": class_names}}, path)
    return path


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of a dual network with shared weights and the classes tree and sign."""
    return save(trained("data.class_names=[tree,sign]", "model.backbone.std=[2,3,4]"), tmp_path / "dual.ckpt")


def settings(path, source_classes=None, class_map=None):
    return {"weights": str(path), "source_classes": source_classes, "class_map": class_map}


def equal(first, second):
    own, other = first.state_dict(), second.state_dict()
    return own.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in own.items())


def test_a_checkpoint_tells_classes_anchors_and_standardisation(checkpoint):
    file = read_trained_file(checkpoint)
    assert file.source == "crossview checkpoint"
    assert file.class_names == ("tree", "sign")
    assert file.anchors.ratios is not None
    assert [len(ratios) for ratios in file.anchors.ratios] == [4, 6, 6, 6, 4, 4]
    assert file.towers[0].preprocessing == Preprocessing((123, 117, 104), (2, 3, 4), "rgb")
    assert file.unused == ()


def test_the_same_network_arrives_whole(checkpoint, caplog):
    source, module = trained("data.class_names=[tree,sign]"), tiny_module("data.class_names=[tree,sign]")
    random_starts = [module.random_start]
    with caplog.at_level("INFO", logger="crossview"):
        initialise(module, settings(checkpoint), None)
    assert [*random_starts, module.random_start] == [True, False]  # so it is not calibrated
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), source.parameters(), strict=True))
    assert module.net.detector.backbone.preprocessing.std == (2.0, 3.0, 4.0)
    assert "sampled   0  nothing" in caplog.text
    assert "projection  copied" in caplog.text


def test_dual_to_one_view(checkpoint, caplog):
    source = trained("data.class_names=[tree,sign]", "model.backbone.std=[2,3,4]")
    detector = tiny_module("data.class_names=[tree,sign]").net.detector
    report = load_network_weights(SingleNetwork(detector), checkpoint, ClassChoice(["tree", "sign"]))
    assert equal(detector, source.net.detector)
    beside = {"projection": source.net.projection, "appearance": source.net.appearance}
    parts = [f"net.{part}.{name}" for part, module in beside.items() for name in module.state_dict()]
    assert report.detectors[0].unused == tuple(parts)
    assert report.copied_parts == report.untouched_parts == ()
    assert load_detector_weights(detector, checkpoint, ["tree", "sign"]).unused == tuple(parts)


def test_one_view_to_dual_leaves_the_projection_at_geometry(tmp_path, caplog):
    source = trained("data.class_names=[tree,sign]").net.detector
    path = save_single(source, tmp_path / "single.ckpt", ["tree", "sign"])
    module = tiny_module("data.class_names=[tree,sign]")
    with caplog.at_level("INFO", logger="crossview"):
        initialise(module, settings(path), None)
    assert equal(module.net.detector, source)
    assert module.net.projection.output.weight.abs().sum() == 0
    assert "projection  not in the file, left as it starts" in caplog.text


def test_shared_weights_to_two_towers(checkpoint, caplog):
    source = trained("data.class_names=[tree,sign]", "model.backbone.std=[2,3,4]")
    module = tiny_module("data.class_names=[tree,sign]", "model.share_weights=false")
    with caplog.at_level("INFO", logger="crossview"):
        initialise(module, settings(checkpoint), None)
    assert all(equal(detector, source.net.detector) for detector in module.net.detectors())
    assert len(module.net.detectors()) == 2
    assert "the same detector for both" in caplog.text


def test_two_towers_to_two_and_to_one(tmp_path, caplog):
    overrides = ["data.class_names=[tree,sign]", "model.share_weights=false"]
    source = trained(*overrides)
    assert not equal(source.net.detector, source.net.detector_2)
    path = save(source, tmp_path / "two.ckpt")
    module, shared = tiny_module(*overrides), tiny_module(overrides[0])
    with caplog.at_level("INFO", logger="crossview"):
        initialise(module, settings(path), None)
    assert equal(module.net, source.net)
    assert "each its own detector" in caplog.text
    report = load_network_weights(shared.net, path, ClassChoice(["tree", "sign"]))
    assert equal(shared.net.detector, source.net.detector)
    assert {key.rpartition("net.detector_2.")[0] for key in report.detectors[0].unused} == {""}
    assert len(report.detectors[0].unused) > 50


def test_other_classes_are_matched_by_name_and_map(checkpoint):
    source = trained("data.class_names=[tree,sign]", "model.backbone.std=[2,3,4]").net.detector
    module = tiny_module("data.class_names=[pole,sign,bush]")
    choice = ClassChoice(module.hparams["class_names"], class_map={"bush": "tree"})
    report = load_network_weights(module.net, checkpoint, choice)
    assert report.detectors[0].classes == (("pole", None), ("sign", "sign"), ("bush", "tree"))
    images = torch.rand(1, 3, *source.image_size) * 255
    with torch.no_grad():
        logits, expected = module.net.detector(images).logits, source(images).logits
    torch.testing.assert_close(logits[..., [0, 2, 3]], expected[..., [0, 2, 1]], rtol=1e-5, atol=1e-5)


def test_another_order_of_anchors_is_known_from_the_checkpoint(tmp_path):
    listed = "model.anchors.aspect_ratios=[[2,1,0.5],[1,3,2,0.5,0.333],{0},{0},[1,2,0.5],[1,2,0.5]]"
    listed = listed.format("[1,2,0.5,3,0.333]")
    source = trained("data.class_names=[tree]", listed)
    path = save(source, tmp_path / "dual.ckpt")
    module = tiny_module("data.class_names=[tree]")
    report = load_network_weights(module.net, path, ClassChoice(["tree"])).detectors[0]
    assert report.notes == ()
    head, expected = (each.net.detector.state_dict()["box_heads.1.bias"].view(6, 4) for each in (module, source))
    assert torch.equal(head, expected[[0, 1, 3, 4, 2, 5]])  # here 1, 1, 2, 1/2, 3, 1/3; there 1, 1, 3, 2, 1/2, 1/3


def test_other_scales_are_said(checkpoint):
    module = tiny_module("data.class_names=[tree,sign]", "model/anchors=ssd300_coco")
    notes = load_network_weights(module.net, checkpoint, ClassChoice(["tree", "sign"])).detectors[0].notes
    assert len(notes) == 1
    assert notes[0].startswith("anchor scales [0.1, 0.2")


def test_foreign_weights_into_two_towers(tmp_path):
    write_pytorch(tmp_path / "voc.pth", tiny_ssd(20))
    module = tiny_module("data.class_names=[tree,car]", "model.share_weights=false")
    initialise(module, settings(tmp_path / "voc.pth", "voc", {"tree": "pottedplant"}), None)
    first, second = module.net.detectors()
    assert equal(first, second)
    assert first.backbone.preprocessing.mean == (123.0, 117.0, 104.0)
    with torch.no_grad():
        assert first(random_images().repeat(1, 1, 1, 2)).logits.isfinite().all()


REFUSED = [
    (["model.projection.hidden=32"], {}, r"projection: found .*Set model\.projection"),
    (["model.variances=[0.1,0.1,0.1,0.1]"], {}, r"model\.variances=\[0\.1, 0\.1, 0\.2, 0\.2\]"),
    (["model.backbone.fc_channels=8"], {}, r"net\.detector\.backbone\.fc6\.weight"),
    (["data.class_names=[pole]"], {}, r"init\.class_map: none of the classes \(pole\)"),
    ([], {"source_classes": "voc"}, r"init\.source_classes"),
    ([], {"source_classes": ["a", "b"]}, r"was trained on \['tree', 'sign'\]"),
    ([], {"class_map": "tree"}, r"init\.class_map: found 'tree', expected a map"),
]


@pytest.mark.parametrize(("overrides", "changes", "message"), REFUSED)
def test_what_does_not_fit_changes_nothing(overrides, changes, message, checkpoint):
    module = tiny_module("data.class_names=[tree,sign]", "model.share_weights=false", *overrides)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises((ConfigError, DataError), match=message):
        initialise(module, {**settings(checkpoint), **changes}, None)
    assert module.random_start
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    "content",
    [
        {"hyper_parameters": {"anchors": {"scales": [1]}}},
        {"hyper_parameters": [1]},
        {"hyper_parameters": {"class_names": 3}},
    ],
)
def test_damaged_hyper_parameters_are_refused(content, tmp_path):
    torch.save({"state_dict": {"net.detector.backbone.x": torch.zeros(1)}, **content}, tmp_path / "some.ckpt")
    with pytest.raises(DataError, match=r"some\.ckpt: cannot be read as a checkpoint"):
        read_trained_file(tmp_path / "some.ckpt")


# --- through the config ---


FAST = ["trainer.fast_dev_run=true", "callbacks=none", "logger=none", "data.batch_size=2"]


def test_a_run_starts_from_them(pair_root, tmp_path, monkeypatch, caplog):
    write_pytorch(tmp_path / "some.pth", tiny_ssd(2))

    def initialise_and_stop(*arguments):
        initialise(*arguments)
        raise ConfigError("far enough")

    monkeypatch.setattr("crossview.run.initialise", initialise_and_stop)
    given = [
        f"init.weights={tmp_path / 'some.pth'}",
        "data.class_names=[tree,sign]",
        "init.source_classes=[a, potted plant]",
        "init.class_map={tree: potted plant, sign: null}",
    ]
    with pytest.raises(UserError, match="far enough"), caplog.at_level("INFO", logger="crossview"):
        train(tiny_config(*FAST, f"data.root={pair_root}", f"run_dir={tmp_path}", *given))
    assert "classes   2  tree from potted plant, sign at random" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["init.weights=a.ckpt", "ckpt=b.ckpt"], r"init\.weights and ckpt: found a\.ckpt and b\.ckpt, expected one"),
        (["init.source_classes=coco"], r"init\.source_classes: found coco, but init\.weights is null"),
        (["init.class_map={tree: a}"], r"init\.class_map: found .* but init\.weights is null"),
        (["init.weights=nowhere.h5"], r"nowhere\.h5: no such weights file"),
    ],
)
def test_contradictions_are_said(overrides, message, pair_root, tmp_path):
    with pytest.raises(UserError, match=message):
        train(tiny_config(*FAST, f"data.root={pair_root}", f"run_dir={tmp_path}", *overrides))
