import pickle

import pytest
import torch

from crossview.checkpoints import load_module, load_weights
from crossview.dual.head import GeometryHead, ResidualHead
from crossview.module import CrossViewModule
from crossview.single_module import SingleViewModule
from crossview.user_errors import UserError
from tests.tiny import tiny_module

BAD_CHECKPOINTS = [
    (lambda path: path.write_text("hello"), "is not a checkpoint of a training run"),  # a text
    (lambda path: path.write_bytes(b""), "is not a checkpoint of a training run"),  # an empty file
    (lambda path: torch.save({"conv1_1.weight": torch.zeros(1)}, path), "model.backbone.weights"),  # bare weights
    (lambda path: torch.save(torch.zeros(3), path), "is not a checkpoint of a training run"),
    (lambda path: path.write_bytes(pickle.dumps(print)), "is not a checkpoint of a training run"),  # code is not run
    (lambda path: torch.save({"state_dict": {}}, path), "does not fit this network"),
    (lambda path: torch.save({"state_dict": [1]}, path), "does not fit this network"),
]


@pytest.mark.parametrize(("write", "words"), BAD_CHECKPOINTS)
def test_a_file_that_is_no_checkpoint_is_refused(write, words, tmp_path):
    path = tmp_path / "some.ckpt"
    write(path)
    with pytest.raises(UserError, match=words) as caught:
        load_weights(tiny_module(), path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) < 8  # a network has hundreds of tensors


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "some.ckpt"
    torch.save({"state_dict": tiny_module().state_dict()}, path)
    load_weights(tiny_module(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="damaged"):
        load_weights(tiny_module(), path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    path = tmp_path / "some.ckpt"
    torch.save({"state_dict": tiny_module("data.class_names=[tree,sign]").state_dict()}, path)
    with pytest.raises(UserError, match=r"does not fit this network(?s:.*)size mismatch(?s:.*)\.\.\. and \d+ more"):
        load_weights(tiny_module(), path)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model.anchors.scales=[0.07,0.15,0.33,0.51,0.69,0.87,1.05]", "model.anchors.scales"),
        ("model.variances=[0.1,0.1,0.1,0.1]", "model.variances"),
    ],
)
def test_a_checkpoint_of_other_default_boxes_is_refused(override, key, tmp_path):
    source, path = tiny_module(override), tmp_path / "some.ckpt"
    torch.save({"state_dict": source.state_dict(), "hyper_parameters": dict(source.hparams)}, path)
    with pytest.raises(
        UserError, match=rf"other default boxes:\n    {key}: found \[0\.0?.* there and .* here\n"
    ) as caught:
        load_weights(tiny_module(), path)
    assert len(str(caught.value).splitlines()) == 3
    load_weights(tiny_module(override), path)


def test_weights_of_a_checkpoint_arrive(tmp_path):
    source, module = tiny_module("model.backbone.std=[2,3,4]"), tiny_module()
    with torch.no_grad():
        for weight in source.parameters():
            weight.add_(1.0)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "some.ckpt")
    load_weights(module, tmp_path / "some.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), source.parameters(), strict=True))
    assert module.net.detector.backbone.preprocessing.std == (2, 3, 4)


# --- a module from its checkpoint alone ---


def saved(module, path, **changes):
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": {**module.hparams, **changes}}, path)
    return path


@pytest.mark.parametrize(("task", "kind"), [("dual", CrossViewModule), ("single", SingleViewModule)])
def test_a_checkpoint_gives_the_module_of_its_task(task, kind, tmp_path):
    module = tiny_module(f"task={task}", "data.class_names=[tree,sign]")
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(1.0)
    found = load_module(saved(module, tmp_path / "some.ckpt"))
    assert type(found) is kind
    assert list(found.hparams["class_names"]) == ["tree", "sign"]
    assert not found.random_start
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), module.parameters(), strict=True))


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    path = saved(tiny_module(), tmp_path / "some.ckpt", telescope=True)
    with pytest.raises(UserError, match=r"another version(?s:.*)telescope(?s:.*)init\.weights"):
        load_module(path)


def test_weights_alone_do_not_give_a_module(tmp_path):
    torch.save({"state_dict": tiny_module().state_dict()}, tmp_path / "some.ckpt")
    with pytest.raises(UserError, match="no hyper_parameters"):
        load_module(tmp_path / "some.ckpt")


@pytest.mark.parametrize(("learned", "head"), [(True, ResidualHead), (False, GeometryHead)])
def test_a_checkpoint_of_before_there_were_several_projections_loads(learned, head, tmp_path):
    module = tiny_module()
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(1.0)
    settings = {name: value for name, value in module.hparams["projection"].items() if name != "_target_"}
    path = saved(module, tmp_path / "some.ckpt", projection={**settings, "learned": learned})
    found = load_module(path)
    assert type(found.net.projection) is head
    assert found.hparams["projection"] == {**settings, "_target_": f"crossview.dual.head.{head.__name__}"}
    old, new = module.state_dict(), found.state_dict()
    assert old.keys() == new.keys()
    assert all(torch.equal(old[key][-len(value) :] if value.dim() else old[key], value) for key, value in new.items())
