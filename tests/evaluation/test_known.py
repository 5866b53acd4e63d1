import pytest

from crossview.dual.matching import PairMatcher
from crossview.evaluation import known
from crossview.evaluation.baselines import MatchSettings
from crossview.evaluation.known import portions
from crossview.evaluation.predictions import read_predictions, write_predictions
from crossview.evaluation.scoring import MILLISECONDS, score
from tests.evaluation.scenes import SETTINGS, cached, same, without_detections


@pytest.fixture
def scenes(pair_root):
    """Pairs with different numbers of detections: padding must not count."""
    first, second = cached(pair_root)[0]
    fewer = second._replace(views=(second.views[0], without_detections(second).views[1]))
    return [scene._replace(number=number) for number, scene in enumerate((first, fewer, second))]


def test_numbers_do_not_depend_on_how_many_pairs_are_scored_at_once(scenes, monkeypatch):
    together = score(scenes, PairMatcher(), MatchSettings())
    monkeypatch.setattr(known, "PORTION", 1)
    alone = score(scenes, PairMatcher(), MatchSettings())
    assert together.metrics == pytest.approx(alone.metrics, nan_ok=True, rel=0, abs=0)
    assert same(tuple(together.covisibility), tuple(alone.covisibility))
    for one, other in zip(together.baselines, alone.baselines, strict=True):
        assert same((one.cross, one.reid, one.errors), (other.cross, other.reid, other.errors))
        numbers, others = ({**row.metrics, MILLISECONDS: 0.0} for row in (one, other))
        assert numbers == pytest.approx(others, nan_ok=True, rel=0, abs=0)


def test_portions_lose_none(monkeypatch):
    monkeypatch.setattr(known, "PORTION", 2)
    assert [list(range(5))[part] for part in portions(5)] == [[0, 1], [2, 3], [4]]
    assert portions(0) == []


def test_a_file_does_not_depend_on_how_many_pairs_are_joined_at_once(scenes, tmp_path, monkeypatch):
    write_predictions(tmp_path / "together.parquet", scenes, SETTINGS)
    monkeypatch.setattr("crossview.evaluation.predictions.SCENES_AT_ONCE", 1)
    write_predictions(tmp_path / "alone.parquet", scenes, SETTINGS)
    together, alone = (read_predictions(tmp_path / f"{name}.parquet") for name in ("together", "alone"))
    assert same(tuple(together.scenes), tuple(alone.scenes))
    assert len(together.scenes) == 3
