"""Every config that is shipped composes and runs."""

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from crossview.command import CONFIG_DIR
from crossview.run import train
from tests.conftest import SMALL_MODELS
from tests.data.make_photos import PHOTO_CONFIGS, write_every_layout

GROUPS = [
    "model",
    "model/anchors",
    "task",
    "projection",
    "data",
    "data/augment",
    "data/image_cache",
    "optimizer",
    "scheduler",
    "callbacks",
    "logger",
    "experiment",
    "matcher",
]
CHOICES = [(group, file.stem) for group in GROUPS for file in sorted((CONFIG_DIR / group).glob("*.yaml"))]
# trainer=gpu and trainer=ddp as far as a machine without a GPU can run them; ddp_cpu starts processes: test_train.py.
TRAINERS = {
    "cpu": [],
    "gpu": ["trainer.accelerator=cpu", "trainer.precision=32-true"],
    "ddp": ["trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.devices=1", "trainer.strategy=auto"],
    "ddp_cpu": ["trainer.devices=1", "trainer.strategy=auto"],
}


# What a variant of the ablation changes, and nothing else.
HEADS = "crossview.dual"
VARIANTS = {
    "base": {},
    "geometry": {"model.projection._target_": f"{HEADS}.head.GeometryHead"},
    "learned": {"model.projection._target_": f"{HEADS}.learned.LearnedHead", "model.projection.box_gradient": 0.0},
    "towers": {"model.share_weights": False},
    "no_reid": {"model.appearance": None},
    "no_refine": {"matcher.refine": False},
    "no_reid_loss": {"model.loss.weights.reid": 0.0},
    "no_view_1": {"model.loss.weights.view_1": 0.0},
    "no_view_2": {"model.loss.weights.view_2": 0.0},
    "no_1_to_2": {"model.loss.weights.view_1_to_2": 0.0},
    "no_2_to_1": {"model.loss.weights.view_2_to_1": 0.0},
}


def composed(*overrides, root, run_dir, model="ssd300"):
    common = [f"data.root={root}", f"run_dir={run_dir}", "data.batch_size=2", "data.num_workers=0"]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", overrides=[f"model={model}", *SMALL_MODELS[model], *common, *overrides])


def model_for(group, choice):
    """The model that a choice is for; where there are several, the first."""
    if group == "model":
        return choice
    return choice.split("_")[0] if group == "model/anchors" else "ssd300"


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_runs(group, choice, pair_root, tmp_path):
    own = [] if group == "model" else [f"{group}={choice}"]
    model, root = model_for(group, choice), pair_root
    if group == "data" and choice in PHOTO_CONFIGS:
        root = write_every_layout(tmp_path / "photos") / choice
        own += ["task=single", *PHOTO_CONFIGS[choice]]
    config = composed(*own, "trainer.fast_dev_run=true", "test=true", root=root, run_dir=tmp_path, model=model)
    assert train(config) is None  # a fast_dev_run measures nothing that could be monitored
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["test/loss/total"] > 0


@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_trainer_runs(trainer, pair_root, tmp_path):
    config = composed(
        f"trainer={trainer}", *TRAINERS[trainer], "trainer.fast_dev_run=true", root=pair_root, run_dir=tmp_path
    )
    train(config)
    assert (tmp_path / "metrics.json").is_file()


def test_all_trainers_are_tested():
    assert {file.stem for file in (CONFIG_DIR / "trainer").glob("*.yaml")} == set(TRAINERS)


def flat(config, prefix=""):
    """All values of a plain container by their dotted names."""
    if not isinstance(config, dict):
        return {prefix: config}
    return {name: value for key, entry in config.items() for name, value in flat(entry, f"{prefix}.{key}").items()}


def test_each_variant_of_the_ablation_changes_one_thing():
    assert {file.stem for file in (CONFIG_DIR / "ablation").glob("*.yaml")} == set(VARIANTS)
    found = {}
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        for name in VARIANTS:
            config = compose("train", overrides=["experiment=ablation", f"ablation={name}", "run_dir=x"])
            found[name] = {key[1:]: value for key, value in flat(OmegaConf.to_container(config, resolve=True)).items()}
    base = found["base"]
    assert base["model.projection._target_"] == f"{HEADS}.head.ResidualHead"
    for name, expected in VARIANTS.items():
        changes = {key: value for key, value in found[name].items() if key not in base or base[key] != value}
        assert changes == expected, name
        gone = {key for key in base if key not in found[name]}
        assert all(key.startswith("model.appearance.") for key in gone), name
        assert bool(gone) == (name == "no_reid")


def test_every_file_says_how_it_is_used():
    for file in CONFIG_DIR.rglob("*.yaml"):
        if "hydra" in file.relative_to(CONFIG_DIR).parts:
            continue
        opening = [line for line in file.read_text().splitlines() if line.startswith("#")]
        assert any("python -m crossview." in line for line in opening[:2]), file


def test_full_size_ssd300_runs(pair_root, tmp_path):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        overrides = [f"data.root={pair_root}", f"run_dir={tmp_path}", "data.batch_size=1", "data.num_workers=0"]
        config = compose("train", overrides=[*overrides, "trainer.fast_dev_run=true"])
    train(config)
    assert Path(tmp_path, "metrics.json").is_file()
