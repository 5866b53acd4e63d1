"""Which networks are calibrated before the first step, and which are left alone."""

import copy

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from crossview.callbacks import calibrated_start
from crossview.callbacks.calibrated_start import CalibratedStart
from crossview.command import CONFIG_DIR
from tests.conftest import SMALL_MODELS, TINY
from tests.tiny import quiet_trainer


@pytest.fixture
def parts(pair_root, tmp_path, request):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        more = getattr(request, "param", [])
        overrides = [
            *TINY,
            *more,
            f"data.root={pair_root}",
            f"run_dir={tmp_path}",
            "trainer.max_epochs=1",
            "optimizer.lr=0",
        ]
        config = compose(
            "train", overrides=[*overrides, "callbacks=none", "logger=none", "trainer.limit_val_batches=0"]
        )
    callback = instantiate({"_target_": "crossview.callbacks.calibrated_start.CalibratedStart", "images": 2})
    module = instantiate(config.model, _recursive_=False, _convert_="all")
    trainer = instantiate(
        config.trainer, callbacks=[callback], logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    return trainer, module, instantiate(config.data, _convert_="all")


def first_layer(module):
    return module.net.detector.backbone.conv1_1.weight.detach().clone()


def test_random_start_is_calibrated_once(parts):
    trainer, module, data = parts
    before = first_layer(module)
    trainer.fit(module, datamodule=data)
    assert not torch.equal(first_layer(module), before)
    assert not module.random_start


@pytest.mark.parametrize("parts", [["data/augment=none"]], indirect=True)
def test_one_view_each_of_pairs_from_all_over_the_set(parts, monkeypatch):
    trainer, module, data = parts
    seen = []
    monkeypatch.setattr(calibrated_start, "calibrate_start", lambda network, layers, images: seen.append(images))
    trainer.datamodule = data
    CalibratedStart(images=2).setup(trainer, module, "fit")
    dataset = data.dataset("train")
    first, middle = dataset[0], dataset[len(dataset) // 2]
    (images,) = seen
    assert len(dataset) > 2
    torch.testing.assert_close(images, dataset.collate([first, middle]).images[:, 0])


def test_loaded_weights_are_left_alone(parts):
    trainer, module, data = parts
    module.random_start = False
    before = first_layer(module)
    trainer.fit(module, datamodule=data)
    assert torch.equal(first_layer(module), before)


def test_testing_does_not_calibrate(parts):
    trainer, module, data = parts
    before = first_layer(module)
    trainer.test(module, datamodule=data, verbose=False)
    assert torch.equal(first_layer(module), before)


@pytest.mark.parametrize(("model", "calibrated"), [("ssd7", 0), ("ssd300_lite", 6)])
def test_only_what_is_not_normalised_is_calibrated(model, calibrated, pair_root):
    # A random EfficientNet-Lite0 has norms everywhere but in the extra layers of SSD.
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        own = [] if model == "ssd7" else ["model.backbone.weights=null", "model.backbone.freeze_norms=false"]
        settings = [f"model={model}", *SMALL_MODELS[model], *own, f"data.root={pair_root}", "data.num_workers=0"]
        config = compose("train", overrides=settings)
    module = instantiate(config.model, _recursive_=False, _convert_="all")
    before = copy.deepcopy(module.state_dict())
    trainer = quiet_trainer(max_steps=0)
    trainer.datamodule = instantiate(config.data, _convert_="all")
    assert module.random_start
    CalibratedStart(images=1).setup(trainer, module, "fit")
    assert not module.random_start
    after = module.state_dict()
    changed = {name for name, parameter in module.named_parameters() if not torch.equal(after[name], before[name])}
    assert len(changed) == 2 * calibrated
    assert all(".extras." in name for name in changed)
    if calibrated == 0:
        assert all(torch.equal(torch.as_tensor(after[name]), torch.as_tensor(before[name])) for name in before)
