"""The steps of an evaluation: predict, match and score, leave files."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from crossview.base_module import DetectorModule
from crossview.build import ConfigError
from crossview.checkpoints import load_module
from crossview.console import RunProgressBar
from crossview.dual.matching import PairMatcher
from crossview.evaluation.baselines import BASELINES, MatchSettings
from crossview.evaluation.calibration import calibrated
from crossview.evaluation.collect import CollectScenes
from crossview.evaluation.geojson import write_geojson
from crossview.evaluation.map_metrics import judge, map_metrics
from crossview.evaluation.map_parts import map_parts
from crossview.evaluation.objects import map_objects
from crossview.evaluation.predictions import Predictions, read_predictions, write_predictions
from crossview.evaluation.records import Scene, with_annotated_boxes
from crossview.evaluation.report import write_report
from crossview.evaluation.scoring import score
from crossview.evaluation.spill import Spilled
from crossview.memory import keep_freed_memory

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
DETECTIONS: dict[str, Callable[[Sequence[Scene]], Sequence[Scene]]] = {
    "network": lambda scenes: scenes,
    "ground_truth": lambda scenes: Spilled(map(with_annotated_boxes, scenes)),
}


def evaluate(config: DictConfig, run_dir: Path) -> dict[str, float]:
    """One evaluation; leaves its files in ``run_dir``, see `crossview.run.evaluate`.

    Returns:
        The metrics by name, with the split in front; nothing in all processes but the first.

    Raises:
        ConfigError: a key does not fit; says which.
    """
    if (config.ckpt is None) == (config.predictions is None):
        found = "neither" if config.ckpt is None else "both"
        raise ConfigError(
            f"ckpt, predictions: found {found}, expected one: ckpt=FILE runs a network, predictions=FILE scores again "
            "what an evaluation has left"
        )
    if config.detections not in DETECTIONS:
        raise ConfigError(f"detections: found {config.detections!r}, expected {' or '.join(DETECTIONS)}")
    matcher: PairMatcher = instantiate(config.matcher)
    settings = _match_settings(config)
    if config.ckpt is not None:
        module = load_module(Path(config.ckpt))
        predictions = predict(config, module, config.split)
        others = predict(config, module, config.calibrate) if config.calibrate in SPLITS else None
        if predictions is None:
            return {}
    else:
        predictions, others = read_predictions(Path(config.predictions)), None
    if config.calibrate is not None:
        matcher = _calibrate(config, matcher, settings, others, run_dir)
    scenes = DETECTIONS[config.detections](predictions.scenes)
    if not scenes:
        raise ConfigError("found no views to score; trainer.limit_test_batches or an empty set may have left none")
    outcome = score(scenes, matcher, settings)
    told = {
        **predictions.settings,
        "detections": config.detections,
        "matcher": asdict(matcher),
        "match": asdict(settings),
    }
    # Matches and positions are those of the network's detections, if they are what was scored.
    metrics = dict(outcome.metrics)
    maps: list[str] = []
    pairs = outcome.pairs if config.detections == "network" else ()
    write_predictions(run_dir / "predictions.parquet", predictions.scenes, told, pairs)
    if pairs:
        objects = map_objects(scenes, pairs, matcher.score_threshold, settings.min_score)
        write_geojson(run_dir / "objects.geojson", objects, told["class_names"])
        logger.info("%d objects on the map: objects.geojson", len(objects.label))
        judged = judge(objects, scenes)
        metrics |= map_metrics(objects, judged)
        maps = map_parts(objects, judged, scenes) if config.report else []
    if config.report:
        write_report(run_dir / "report.html", scenes, outcome, told, matcher.score_threshold, maps)
    split = predictions.settings["split"]
    losses: dict[str, float] = predictions.settings["losses"]
    return losses | with_split(metrics, split)


def _match_settings(config: DictConfig) -> MatchSettings:
    """The settings of matching.

    Raises:
        ConfigError: one is out of its range.
    """
    try:
        return MatchSettings(**config.match)
    except ValueError as error:
        raise ConfigError(f"match: {error}") from error


def predict(config: DictConfig, module: DetectorModule, split: str) -> Predictions | None:
    """What a network says about a split; None in all processes but the first."""
    data: pl.LightningDataModule = instantiate(data_of_checkpoint(config, module, split), _convert_="all")
    collected = CollectScenes()
    trainer: pl.Trainer = instantiate(
        config.trainer, callbacks=[RunProgressBar(), collected], logger=False, default_root_dir=str(config.run_dir)
    )
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    trainer.test(module, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        return None
    losses = {
        name.replace("test/", f"{split}/", 1): float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith("test/loss/")
    }
    told = {
        "split": split,
        "class_names": list(module.hparams["class_names"]),
        "checkpoint": str(Path(config.ckpt).resolve()),
        "losses": losses,
        "config": OmegaConf.to_container(config, resolve=True),
    }
    return Predictions(collected.scenes, told)


def data_of_checkpoint(config: DictConfig, module: DetectorModule, split: str) -> DictConfig:
    """The config of the data to evaluate on: the split's image set, with what the network was trained for.

    Raises:
        ConfigError: the split does not exist, or a setting is given that only the checkpoint can know.
    """
    data: DictConfig = config.data.copy()
    if f"{split}_set" not in data:
        raise ConfigError(f"split: found {split!r}, expected {', '.join(SPLITS[:-1])} or {SPLITS[-1]}")
    for key in ("class_names", "image_size"):
        if data[key] is not None:
            raise ConfigError(f"data.{key}: found {data[key]}, but the checkpoint decides it; leave it out")
        data[key] = list(module.hparams[key])
    OmegaConf.set_struct(data, False)
    data["_target_"] = module.data_module
    data["test_set"] = data[f"{split}_set"]
    return data


def score_test(scenes: Sequence[Scene], matcher: PairMatcher) -> dict[str, float]:
    """The metrics of a training run's test set, by name, without files or pictures."""
    # The last row only: nobody sees the others.
    return with_split(score(scenes, matcher, MatchSettings(), BASELINES[-1:]).metrics, "test") if scenes else {}


def with_split(metrics: Mapping[str, float], split: str) -> dict[str, float]:
    """The metrics with the split in front of their names."""
    return {f"{split}/{name}": value for name, value in metrics.items()}


def _calibrate(
    config: DictConfig, matcher: PairMatcher, settings: MatchSettings, found: Predictions | None, run_dir: Path
) -> PairMatcher:
    """The matcher fitted to other predictions, which are also left in the run folder.

    Raises:
        ConfigError: there are none.
    """
    if found is None:
        if config.calibrate in SPLITS:
            raise ConfigError(
                f"calibrate: found {config.calibrate}, which needs a network (ckpt=FILE); to score predictions anew "
                "give a file of predictions here too, such as the calibration.parquet of an evaluation"
            )
        found = read_predictions(Path(config.calibrate), "calibrate")
    fitted = calibrated(matcher, DETECTIONS[config.detections](found.scenes), settings)
    write_predictions(run_dir / "calibration.parquet", found.scenes, found.settings)
    changed = {name: value for name, value in asdict(fitted).items() if value != getattr(matcher, name)}
    logger.info("Fitted: %s", " ".join(f"matcher.{name}={value:.4g}" for name, value in changed.items()))
    return fitted
