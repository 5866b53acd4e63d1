import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from crossview.build import ConfigError
from crossview.dual.matching import PairMatcher
from crossview.evaluation.baselines import MatchSettings
from crossview.evaluation.predictions import METADATA_KEY, SCHEMA, VERSION, read_predictions, write_predictions
from crossview.evaluation.records import with_annotated_boxes
from crossview.evaluation.scoring import score
from tests.evaluation.scenes import SETTINGS, cached, same, without_detections


@pytest.fixture
def scenes(pair_root):
    found, _ = cached(pair_root)
    assert len(found) == 2
    assert all(len(view.detections.labels) and len(view.truth.ids) for scene in found for view in scene.views)
    return found


def test_scenes_come_back_to_the_last_bit(scenes, tmp_path):
    write_predictions(tmp_path / "a.parquet", scenes, SETTINGS)
    found = read_predictions(tmp_path / "a.parquet")
    assert same(tuple(found.scenes), tuple(scenes))
    assert found.settings == SETTINGS
    assert [file.name for file in tmp_path.iterdir()] == ["a.parquet"]


def test_what_may_be_missing_comes_back_too(scenes, tmp_path):
    bare = without_detections(scenes[0])
    first = bare.views[0]
    truth = first.truth._replace(
        ids=np.where(np.arange(len(first.truth.ids)) == 0, -5, first.truth.ids),  # any int64 is an identity
        has_location=np.zeros(len(first.truth.ids), bool),
        location=np.zeros((len(first.truth.ids), 2)),
    )
    boxes = first.objects._replace(embeddings=None, covisibility=np.full(len(truth.ids), np.nan, np.float32))
    nothing = np.zeros(0, np.int64)
    alone = first._replace(truth=truth, objects=boxes, detections=boxes.take(nothing), camera=None, period=np.inf)
    scene = bare._replace(views=(alone,), origin=(np.nan, np.nan))
    write_predictions(tmp_path / "a.parquet", [scene], SETTINGS)
    assert same(tuple(read_predictions(tmp_path / "a.parquet").scenes), (scene,))


def test_views_without_boxes_are_not_forgotten(scenes, tmp_path):
    nothing = np.zeros(0, np.int64)
    views = tuple(
        view._replace(
            objects=view.objects.take(nothing), truth=type(view.truth)(*(field[nothing] for field in view.truth))
        )
        for view in without_detections(scenes[0]).views
    )
    write_predictions(tmp_path / "a.parquet", [scenes[0]._replace(views=views)], SETTINGS)
    (found,) = read_predictions(tmp_path / "a.parquet").scenes
    assert [view.name for view in found.views] == [view.name for view in scenes[0].views]
    assert same(found.views[1].camera, scenes[0].views[1].camera)


def test_the_order_of_views_in_the_file_does_not_matter(scenes, tmp_path):
    write_predictions(tmp_path / "a.parquet", scenes, SETTINGS)
    table = pq.read_table(tmp_path / "a.parquet")
    parts = [table.filter(pc.equal(table["view"], view)) for view in (2, 1)]
    pq.write_table(pa.concat_tables(parts), tmp_path / "b.parquet")
    assert same(tuple(read_predictions(tmp_path / "b.parquet").scenes), tuple(scenes))


def test_the_file_is_plain_for_other_programs(scenes, tmp_path):
    perfect = [with_annotated_boxes(scene) for scene in scenes]
    outcome = score(perfect, PairMatcher(), MatchSettings())
    write_predictions(tmp_path / "a.parquet", perfect, SETTINGS, outcome.pairs)
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert {row["kind"] for row in rows} == {"view", "object", "detection"}
    objects = [row for row in rows if row["kind"] == "object" and row["view_name"] == scenes[0].views[0].name]
    assert [row["id"] for row in objects] == scenes[0].views[0].truth.ids.tolist()
    assert {row["class_name"] for row in objects} == {"tree"}
    matched = [row for row in rows if row["match"] is not None]
    assert matched
    for row in matched:  # detections are the annotated boxes here, so the annotated position is near
        others = [other for other in rows if other["kind"] == "detection" and other["pair"] == row["pair"]]
        (partner,) = [
            other
            for number, other in enumerate(other for other in others if other["view"] == 3 - row["view"])
            if number == row["match"]
        ]
        assert (partner["found_lat"], partner["found_lng"]) == (row["found_lat"], row["found_lng"])
        assert row["ellipse_major_m"] >= row["ellipse_minor_m"] > 0
        # Metres and degrees say the same: a degree of latitude is 111.2 km.
        assert (row["found_lat"] - row["origin_lat"]) * 111_194.93 == pytest.approx(row["found_north"], abs=1e-3)
    alone = [row for row in rows if row["kind"] == "detection" and row["match"] is None]
    assert any(row["found_lat"] is not None for row in alone)  # by one view


# --- files that cannot be used ---


def spoiled(path, scenes, change):
    write_predictions(path, scenes, SETTINGS)
    table = pq.read_table(path)
    settings = json.loads(table.schema.metadata[METADATA_KEY])
    pq.write_table(change(table, settings), path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda table, settings: table.replace_schema_metadata(
                {METADATA_KEY: json.dumps({**settings, "version": VERSION + 1})}
            ),
            f"version {VERSION + 1}, expected version {VERSION}",
        ),
        (lambda table, settings: table.replace_schema_metadata({}), "no version of this program"),
        (lambda table, settings: table.drop_columns(["score"]), "score"),
    ],
)
def test_a_file_of_another_version_is_refused(change, words, scenes, tmp_path):
    spoiled(tmp_path / "a.parquet", scenes, change)
    with pytest.raises(ConfigError, match=rf"predictions: .*a\.parquet.*{words}.*ckpt=FILE"):
        read_predictions(tmp_path / "a.parquet")


def test_what_is_no_file_of_predictions_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"predictions: found no file .*nowhere\.parquet"):
        read_predictions(tmp_path / "nowhere.parquet")
    (tmp_path / "a.parquet").write_text("hello")
    with pytest.raises(ConfigError, match="is not a Parquet file"):
        read_predictions(tmp_path / "a.parquet")


def test_columns_are_documented(request):
    text = (request.config.rootpath / "docs/evaluation.md").read_text()
    groups = {"camera_", "origin_", "placed_", "geometry_", "image_", "final_", "found_", "ellipse_", "network_"}
    for name in SCHEMA.names:
        group = next((group for group in groups if name.startswith(group)), None)
        assert f"`{name}`" in text or (group and f"`{group}" in text), name
