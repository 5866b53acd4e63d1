"""The processes of a run end together; with those of a real run in test_distributed.py."""

import os
import signal
import subprocess
import threading
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl

import crossview.processes
from crossview.processes import MAIN, Processes, end_with_parent
from crossview.signals import Stopped

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # they are what ends threads


@pytest.fixture
def exits(monkeypatch):
    """The codes with which this process would have ended, and an event when it does."""
    codes: list[int] = []
    over = threading.Event()

    def note(code):
        codes.append(code)
        over.set()
        raise SystemExit  # ends the thread

    monkeypatch.setattr(crossview.processes, "POLL_S", 0.02)
    monkeypatch.setattr(crossview.processes, "PATIENCE_S", 0.3)
    monkeypatch.setattr(os, "_exit", note)
    return SimpleNamespace(codes=codes, over=over)


def trainer_of(*commands):
    """A trainer whose launcher has started these."""
    started = [subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE) for command in commands]
    return SimpleNamespace(strategy=SimpleNamespace(launcher=SimpleNamespace(procs=started.copy()))), started


def test_a_process_that_fails_ends_the_run(exits, capsys):
    trainer, started = trainer_of("exit 7", "sleep 60")
    Processes().setup(trainer, pl.LightningModule(), "fit")
    assert trainer.strategy.launcher.procs == []  # nothing left for Lightning to watch
    assert exits.over.wait(20)
    assert exits.codes == [7]
    assert started[1].wait(20) == -signal.SIGKILL
    assert "ended with code 7" in capsys.readouterr().err


def test_when_nothing_follows_a_failing_process_ends_nothing(exits, monkeypatch):
    monkeypatch.setattr(crossview.processes, "PATIENCE_S", 0.1)
    trainer, started = trainer_of("exit 7")
    processes = Processes()
    with processes.ending_together(trainer):
        processes.nothing_follows()
        processes.setup(trainer, pl.LightningModule(), "test")
        assert started[0].wait(20) == 7
        assert not exits.over.wait(1.0)
    assert exits.codes == []


def test_processes_that_end_by_themselves_are_left_alone(exits, monkeypatch):
    monkeypatch.setattr(crossview.processes, "PATIENCE_S", 20.0)
    trainer, started = trainer_of("sleep 0.2", "exit 143")
    processes = Processes()
    processes.setup(trainer, pl.LightningModule(), "fit")
    with pytest.raises(Stopped), processes.ending_together(trainer):
        raise Stopped(signal.SIGTERM)
    assert [process.wait(20) for process in started] == [0, 143]
    assert exits.codes == []


def test_none_outlives_an_error(exits):
    trainer, started = trainer_of("sleep 60", "trap '' TERM; echo; while true; do sleep 0.05; done")
    started[1].stdout.readline()  # the trap is set
    with pytest.raises(KeyError), Processes().ending_together(trainer):  # before they were taken over
        raise KeyError
    assert [process.wait(20) for process in started] == [-signal.SIGTERM, -signal.SIGKILL]


def test_a_process_ends_with_the_one_that_started_it(exits, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv(MAIN, "1234567")
    end_with_parent()
    assert exits.over.wait(20)
    assert exits.codes == [1]


@pytest.mark.parametrize("environment", [{}, {"LOCAL_RANK": "0"}])
def test_the_first_process_does_not_care_who_started_it(environment, exits, monkeypatch):
    for name in ("LOCAL_RANK", MAIN):
        monkeypatch.setenv(name, "")  # so that what is set below is taken back
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    before = set(threading.enumerate())  # that of the test before may still be ending
    end_with_parent()
    assert "parent-watch" not in {thread.name for thread in set(threading.enumerate()) - before}
    assert exits.codes == []
