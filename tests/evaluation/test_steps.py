"""The command's function from a config: with a network, from a file, and what it refuses."""

import json

import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from crossview.command import CONFIG_DIR
from crossview.dual.matching import PairMatcher
from crossview.evaluation.baselines import MatchSettings
from crossview.run import evaluate, train
from crossview.user_errors import UserError
from tests.conftest import SMALL_MODELS
from tests.data.make_voc import write_pair_dataset
from tests.tiny import quiet_trainer, tiny_config, tiny_module


def evaluation(run_dir, *overrides):
    common = ["data.num_workers=0", f"run_dir={run_dir}", "report=false", *overrides]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return evaluate(compose("evaluate", overrides=common))


def saved(module, path):
    """A checkpoint as training leaves it."""
    trainer = quiet_trainer()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return saved(tiny_module(), tmp_path_factory.mktemp("checkpoint") / "tiny.ckpt")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, checkpoint, pair_root):
    """One evaluation, shared by the tests that look at what it left."""
    run_dir = tmp_path_factory.mktemp("run")
    return run_dir, evaluation(run_dir, f"ckpt={checkpoint}", f"data.root={pair_root}", "report=true")


def read(run_dir):
    return json.loads((run_dir / "metrics.json").read_text())


def test_all_metrics_and_files_are_there(finished):
    run_dir, metrics = finished
    names = ["detection/ap50", "detection/voc07_ap", "detection/coco_map", "cross/ap50", "cross/geometry_ap50"]
    names += ["cross/center_px", "reid/ap", "reid/f1", "geo/median_m", "geo/mean_m", "loss/total", "loss/view_1"]
    assert {f"test/{name}" for name in names} <= set(metrics)
    assert all(name.startswith("test/") for name in metrics)
    assert set(read(run_dir)) == set(metrics)
    left = {"metrics.json", "predictions.parquet", "objects.geojson", "report.html"}
    assert {path.name for path in run_dir.iterdir()} == left
    assert "<h2>Map</h2>" in (run_dir / "report.html").read_text()


def test_scoring_again_gives_the_same_without_images_or_network(finished, tmp_path):
    run_dir, _ = finished
    evaluation(tmp_path / "again", f"predictions={run_dir}/predictions.parquet")
    first, again = read(run_dir), read(tmp_path / "again")
    assert first == again
    assert first["test/detection/ap50"] is not None
    assert not (tmp_path / "again/report.html").exists()


def test_perfect_detections_are_the_ceiling(finished, tmp_path):
    run_dir, metrics = finished
    best = evaluation(tmp_path / "best", f"predictions={run_dir}/predictions.parquet", "detections=ground_truth")
    assert best["test/reid/f1"] == best["test/cross/placed"] == best["test/detection/ap50"] == 1
    assert metrics["test/reid/f1"] < 1
    # The file keeps what the network found.
    again = evaluation(tmp_path / "again", f"predictions={tmp_path}/best/predictions.parquet")
    assert again["test/detection/ap50"] == metrics["test/detection/ap50"]


def test_another_matcher_is_used(finished, tmp_path):
    run_dir, _ = finished
    overrides = ["detections=ground_truth", "matcher.no_match_price=-1000", "matcher.unlocated_price=-1000"]
    metrics = evaluation(tmp_path / "run", f"predictions={run_dir}/predictions.parquet", *overrides)
    assert metrics["test/reid/f1"] == 0


def test_the_split_is_in_the_names(checkpoint, pair_root, tmp_path):
    metrics = evaluation(tmp_path / "run", f"ckpt={checkpoint}", f"data.root={pair_root}", "split=val")
    assert all(name.startswith("val/") for name in metrics)
    again = evaluation(tmp_path / "again", f"predictions={tmp_path}/run/predictions.parquet")
    assert set(again) == set(metrics)


def test_the_matcher_can_be_fitted_to_another_split(checkpoint, pair_root, tmp_path):
    overrides = [f"ckpt={checkpoint}", f"data.root={pair_root}", "detections=ground_truth"]
    fitted = evaluation(tmp_path / "run", *overrides, "calibrate=val")
    metadata = pq.read_schema(tmp_path / "run/predictions.parquet").metadata
    settings = json.loads(next(iter(metadata.values())))["matcher"]
    assert settings["foot_sigma_px"] != PairMatcher().foot_sigma_px
    files = [f"predictions={tmp_path}/run/predictions.parquet", f"calibrate={tmp_path}/run/calibration.parquet"]
    again = evaluation(tmp_path / "again", *files, "detections=ground_truth")
    assert again["test/reid/ap"] == fitted["test/reid/ap"]
    assert again["test/geo/mean_m"] == fitted["test/geo/mean_m"]


def test_a_network_of_single_views(pair_root, tmp_path):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", overrides=["task=single", *SMALL_MODELS["ssd300"], f"data.root={pair_root}"])
    module = instantiate(config.model, _recursive_=False, _convert_="all")
    path = saved(module, tmp_path / "single.ckpt")
    metrics = evaluation(tmp_path / "run", f"ckpt={path}", f"data.root={pair_root}", "report=true")
    names = {"detection/ap50", "detection/voc07_ap", "detection/coco_map", "loss/total", "loss/view"}
    assert set(metrics) == {f"test/{name}" for name in names}
    again = evaluation(tmp_path / "again", f"predictions={tmp_path}/run/predictions.parquet")
    assert again == metrics
    assert "pure geometry" not in (tmp_path / "run/report.html").read_text()
    perfect = evaluation(tmp_path / "p", f"predictions={tmp_path}/run/predictions.parquet", "detections=ground_truth")
    assert perfect["test/detection/ap50"] == 1


def test_images_may_come_from_a_cache(checkpoint, finished, pair_root, tmp_path):
    evaluation(tmp_path / "run", f"ckpt={checkpoint}", f"data.root={pair_root}", "data/image_cache=arrays")
    plain, cached = finished[1], read(tmp_path / "run")
    assert cached["test/loss/total"] == pytest.approx(plain["test/loss/total"], rel=0.05)


def test_panoramas_without_annotations_have_detections_and_a_map(checkpoint, pair_root, tmp_path):
    root = write_pair_dataset(tmp_path / "data", pairs=2, objects=0)
    sets = root / "VOC/Pasadena/ImageSets/Main/reid_neu"
    (sets / "mine.txt").write_text((sets / "train.txt").read_text())
    run = tmp_path / "run"
    evaluation(run, f"ckpt={checkpoint}", f"data.root={root}", "data.test_set=mine", "match.min_score=0.01")
    assert read(run)["test/map/precision"] is read(run)["test/map/recall"] is None
    shown = json.loads((run / "objects.geojson").read_text())["features"]
    assert len(shown) > 0
    assert len({tuple(feature["geometry"]["coordinates"]) for feature in shown}) == len(shown)


def test_pairs_without_objects(checkpoint, tmp_path):
    root = write_pair_dataset(tmp_path / "data", pairs=2, objects=0)
    evaluation(tmp_path / "run", f"ckpt={checkpoint}", f"data.root={root}", "report=true")
    assert read(tmp_path / "run")["test/reid/f1"] is None
    assert (tmp_path / "run/report.html").is_file()


def test_training_ends_with_the_same_numbers(pair_root, tmp_path):
    quiet = ["callbacks.pictures=null", "callbacks.progress=null", "logger=none", "trainer.max_epochs=1"]
    train(tiny_config(*quiet, f"data.root={pair_root}", f"run_dir={tmp_path}", "data.batch_size=4"))
    trained = read(tmp_path)
    evaluation(tmp_path / "run", f"ckpt={tmp_path}/checkpoints/best.ckpt", f"data.root={pair_root}")
    evaluated = read(tmp_path / "run")
    scored = [name for name in evaluated if "/loss/" not in name and "/map/" not in name]
    assert len(scored) > 10
    for name in scored:
        if evaluated[name] is None:
            assert trained[name] is None, name
        else:
            assert trained[name] == pytest.approx(evaluated[name], rel=1e-4), name


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "ckpt, predictions: found neither"),
        (["ckpt=a", "predictions=b"], "ckpt, predictions: found both"),
        (["predictions=nowhere.parquet"], "predictions: found no file nowhere.parquet"),
        (["ckpt=nowhere.ckpt"], "ckpt: found no file nowhere.ckpt"),
        (["ckpt=CKPT", "split=tset"], "split: found 'tset'"),
        (["ckpt=CKPT", "detections=perfect"], "detections: found 'perfect', expected network or ground_truth"),
        (["ckpt=CKPT", "matcher.rounds=0"], "rounds=0"),
        (["ckpt=CKPT", "match.recall=2"], "match: .*recall=2"),
        (["ckpt=CKPT", "data.class_names=[tree]"], "data.class_names: .*the checkpoint decides it"),
        (["predictions=FILE", "calibrate=val"], "calibrate: found val, which needs a network"),
        (["predictions=FILE", "calibrate=nowhere.parquet"], "calibrate: found no file nowhere.parquet"),
    ],
)
def test_what_is_wrong_is_said(overrides, words, checkpoint, finished, pair_root, tmp_path):
    names = {"CKPT": str(checkpoint), "FILE": f"{finished[0]}/predictions.parquet"}
    filled = [names.get(value, value).join([key + "=", ""]) for key, _, value in (o.partition("=") for o in overrides)]
    with pytest.raises(UserError, match=words):
        evaluation(tmp_path / "run", f"data.root={pair_root}", *filled)
    assert not (tmp_path / "run/metrics.json").exists()


def test_the_config_has_the_defaults_of_the_code():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("evaluate")
    assert instantiate(config.matcher) == PairMatcher()
    assert set(config.matcher) - {"_target_"} == set(PairMatcher.__dataclass_fields__)
    assert MatchSettings(**config.match) == MatchSettings()
