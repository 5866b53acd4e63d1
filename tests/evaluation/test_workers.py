import os
import signal

import pytest

from crossview.dual.matching import PairMatcher
from crossview.evaluation import known, workers
from crossview.evaluation.baselines import BASELINES, MatchSettings
from crossview.evaluation.scoring import score
from crossview.evaluation.workers import LEAST, mapping
from tests.evaluation.scenes import cached


def test_little_work_is_done_here():
    with mapping(2 * LEAST - 1) as spread:
        assert set(spread(_process, range(3))) == {os.getpid()}


def test_a_processor_with_one_core_starts_no_process(monkeypatch):
    monkeypatch.setattr(workers, "usable_cores", lambda: 1)
    with mapping(1000 * LEAST) as spread:
        assert list(spread(_process, [0])) == [os.getpid()]


def test_a_job_of_a_sweep_does_its_work_itself(monkeypatch):
    monkeypatch.setattr(workers, "usable_cores", lambda: 8)
    monkeypatch.setattr(workers, "parent_process", lambda: object())
    with mapping(1000 * LEAST) as spread:
        assert list(spread(_process, [0])) == [os.getpid()]


def test_the_work_of_a_process_that_is_ended_from_outside_is_done_here(monkeypatch, caplog):
    monkeypatch.setattr(workers, "usable_cores", lambda: 2)
    with mapping(2 * LEAST) as spread:
        assert list(spread(_end_helper, [os.getpid()] * 4)) == [os.getpid()] * 4
    assert "this one does the rest" in caplog.text


def test_many_pairs_score_in_several_processes_as_in_one(pair_root, monkeypatch):
    scenes = cached(pair_root)[0]
    here = score(scenes, PairMatcher(), MatchSettings(), BASELINES)
    monkeypatch.setattr(workers, "LEAST", 1)
    monkeypatch.setattr(workers, "usable_cores", lambda: 2)
    monkeypatch.setattr(known, "PORTION", 1)
    there = score(scenes, PairMatcher(), MatchSettings(), BASELINES)
    assert there.metrics == pytest.approx(here.metrics, nan_ok=True)
    for one, other in zip(here.baselines, there.baselines, strict=True):
        assert one.reid.flags.tolist() == other.reid.flags.tolist()
    found, others = ([pair.matched.scores.tolist() for pair in outcome.pairs] for outcome in (here, there))
    assert found == others
    assert len(found) == len(scenes)


def _process(_: object) -> int:
    return os.getpid()


def _end_helper(parent: int) -> int:
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()
