"""Which trainers can be part of a sweep."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from crossview.command import CONFIG_DIR
from crossview.sweeps.devices import refusal


@pytest.mark.parametrize("devices", [1, "1", [0], [3]])
def test_one_device_can_be_swept(devices):
    assert refusal(OmegaConf.create({"devices": devices, "num_nodes": 1})) is None


@pytest.mark.parametrize(("accelerator", "fits"), [("cpu", True), ("gpu", False), ("auto", False)])
def test_all_devices_are_one_on_the_cpu_only(accelerator, fits):
    reason = refusal(OmegaConf.create({"accelerator": accelerator, "devices": "auto", "num_nodes": 1}))
    assert (reason is None) == fits


@pytest.mark.parametrize("devices", [2, "2", -1, "-1", [0, 1], "0,1"])
def test_several_devices_cannot(devices):
    reason = refusal(OmegaConf.create({"devices": devices, "num_nodes": 1}))
    assert reason is not None
    for word in (f"trainer.devices: found {devices}", "expected 1", "trainer.devices=1", "hydra/launcher=joblib"):
        assert word in reason


def test_several_nodes_cannot():
    assert "trainer.num_nodes: found 2" in str(refusal({"devices": 1, "num_nodes": 2}))


@pytest.mark.parametrize(("trainer", "swept"), [("cpu", True), ("gpu", True), ("ddp", False), ("ddp_cpu", False)])
def test_shipped_trainers(trainer, swept):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", overrides=[f"trainer={trainer}"])
    assert (refusal(config.trainer) is None) == swept
