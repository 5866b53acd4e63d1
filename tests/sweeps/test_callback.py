"""Sweeps with every sweeper and launcher that is installed, of jobs that take no time."""

import csv
import sqlite3
import subprocess
import sys

import pytest

from crossview.sweeps.jobs import Pruned, read_jobs

# A command with the configs of crossview.train, whose metric is a setting.
COMMAND = """
import hydra, sys
from pathlib import Path
from crossview.command import CONFIG_DIR
from crossview.spelling import run_with_hints
from crossview.sweeps.jobs import Pruned

@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="train")
def main(config):
    if config.seed == 13:
        from crossview.user_errors import UserError

        raise UserError("seed: found 13, expected luck\\nanother line")
    if config.seed == 14:
        raise ZeroDivisionError("a defect")
    if config.seed == 15:
        raise Pruned("others are better", 0.125)
    if config.seed == 16:
        raise KeyboardInterrupt
    if config.seed == 1:
        Path(config.run_dir, "metrics.json").write_text('{"test/detection/ap50": 0.75, "test/geo/median_m": null}')
    return None if config.seed == 17 else config.optimizer.lr

if __name__ == "__main__":
    run_with_hints(main, CONFIG_DIR, "train")
"""
TIME_LIMIT_S = 240


@pytest.fixture
def sweep(tmp_path, run_environment):
    """Runs a sweep; returns the finished process and the rows of its table."""
    script = tmp_path / "command.py"
    script.write_text(COMMAND)

    def run(*arguments, mode="-m", folder=tmp_path / "sweep"):
        done = subprocess.run(
            [sys.executable, str(script), *([mode] if mode else []), f"hydra.sweep.dir={folder}", *arguments],
            cwd=tmp_path,
            env=run_environment,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            check=False,
        )
        table = folder / "sweep.csv"
        return done, list(csv.DictReader(table.read_text().splitlines())) if table.is_file() else []

    return run


def column(rows, name):
    return [row[name] for row in rows]


def test_table_and_picture_of_a_sweep(sweep, tmp_path):
    done, rows = sweep("optimizer.lr=1e-4,2e-4", "seed=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"Sweep folder: {tmp_path}/sweep"
    assert column(rows, "optimizer.lr") == ["0.0001", "0.0002"]  # as Hydra hands them on
    assert column(rows, "seed") == ["1", "1"]
    assert column(rows, "status") == ["ok", "ok"]
    assert column(rows, "metric") == ["0.0001", "0.0002"]
    assert column(rows, "test/detection/ap50") == ["0.75", "0.75"]
    assert column(rows, "test/geo/median_m") == ["", ""]
    assert "test/reid/f1" not in rows[0]  # no job has it
    assert all(float(seconds) < 60 for seconds in column(rows, "seconds"))
    assert (tmp_path / "sweep/sweep.png").is_file()


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_failed_jobs_do_not_end_the_others(launcher, sweep, tmp_path):
    jobs = [] if launcher == "basic" else ["hydra.launcher.n_jobs=2"]
    done, rows = sweep(f"hydra/launcher={launcher}", *jobs, "seed=13,14,15,1", "optimizer.lr=0.5")
    assert done.returncode == 1
    assert f"2 of 4 jobs failed, see {tmp_path}/sweep/sweep.csv" in done.stderr
    assert column(rows, "status") == ["failed", "failed", "pruned", "ok"]
    assert column(rows, "metric") == ["", "", "0.125", "0.5"]
    assert column(rows, "test/detection/ap50") == ["", "", "", "0.75"]
    assert column(rows, "run_dir") == ["0", "1", "2", "3"]
    assert column(rows, "error") == ["seed: found 13, expected luck", "a defect", "", ""]
    assert (tmp_path / "sweep/sweep.png").is_file()
    if launcher == "basic":  # what a worker prints may come late
        assert "seed: found 13, expected luck\nanother line\n" in done.stderr
        assert done.stderr.count("Traceback") == 1  # of the defect
        assert "others are better" in done.stdout


def test_the_folder_may_be_named_by_a_way_back(sweep, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    done, rows = sweep("seed=13,1", folder=tmp_path / "elsewhere" / ".." / "sweep")
    assert done.returncode == 1
    assert column(rows, "status") == ["failed", "ok"]
    assert column(rows, "run_dir") == ["0", "1"]


def test_failed_jobs_do_not_end_the_next_batch(sweep):
    done, rows = sweep("hydra.sweeper.max_batch_size=1", "seed=13,1")
    assert done.returncode == 1
    assert column(rows, "status") == ["failed", "ok"]


def test_a_sweep_that_is_broken_off_is_reported(sweep, tmp_path):
    done, rows = sweep("seed=1,16,2")
    assert done.returncode != 0
    assert column(rows, "status") == ["ok", "unfinished"]
    assert (tmp_path / "sweep/sweep.png").is_file()


def test_the_jobs_of_an_earlier_sweep_are_not_overwritten(sweep):
    first, _ = sweep("seed=1,2")
    assert first.returncode == 0
    again, rows = sweep("seed=3")
    assert again.returncode == 1
    assert "has the jobs of an earlier sweep" in again.stderr
    assert column(rows, "seed") == ["1", "2"]


def test_the_columns_of_the_table_are_a_setting(sweep):
    done, rows = sweep("seed=1,2", "hydra.callbacks.sweep_report.metrics=[test/geo/median_m]")
    assert done.returncode == 0, done.stderr
    assert list(rows[0]) == ["job", "seed", "status", "metric", "test/geo/median_m", "seconds", "run_dir", "error"]


def test_several_devices_are_refused_before_any_job(sweep, tmp_path):
    done, rows = sweep("trainer=ddp_cpu", "trainer.devices=2", "seed=1,2")
    assert done.returncode == 1
    assert done.stderr.strip().startswith("trainer.devices: found 2 in a sweep (-m), expected 1")
    assert "Traceback" not in done.stderr
    assert not rows
    assert not (tmp_path / "sweep").exists()


def test_optuna_keeps_its_study_and_goes_on_with_it(sweep, tmp_path):
    study = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "optimizer.lr=tag(log,interval(1e-5,1e-2))"]
    first, before = sweep(*study, "seed=1,13")
    assert first.returncode == (1 if "13" in column(before, "seed") else 0), first.stderr
    file = tmp_path / "sweep/study.db"
    second, after = sweep(*study, "seed=1,13", f"hydra.sweeper.storage=sqlite:///{file}", folder=tmp_path / "more")
    assert "Best value" in second.stdout
    with sqlite3.connect(file) as connection:
        states = [state for (state,) in connection.execute("select state from trials order by number")]
        ((direction,),) = connection.execute("select direction from study_directions")
    rows = before + after
    assert states == ["COMPLETE" if row["status"] == "ok" else "FAIL" for row in rows]
    assert {"COMPLETE", "FAIL"} == set(states)
    assert len(rows) == 6
    assert direction == "MAXIMIZE"
    assert len(set(column(rows, "optimizer.lr"))) == 6  # the second half does not repeat the first
    best = max(float(row["metric"]) for row in rows if row["metric"])
    assert f"Best value: {best}" in second.stdout


def test_a_study_without_any_result_is_reported(sweep, tmp_path):
    done, rows = sweep("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "seed=17", "optimizer.lr=interval(0.1,0.2)")
    assert done.returncode == 1
    assert column(rows, "status") == ["ok", "ok"]
    assert column(rows, "metric") == ["", ""]
    assert (tmp_path / "sweep/sweep.png").is_file()


def test_single_runs_leave_nothing_of_a_sweep(sweep, tmp_path):
    done, _ = sweep(f"hydra.run.dir={tmp_path}/run", mode=None)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/.hydra/config.yaml").is_file()
    assert not read_jobs(tmp_path)


def test_pruned_survives_the_way_from_another_process():
    import pickle

    copied = pickle.loads(pickle.dumps(Pruned("why", 0.5)))
    assert (copied.reason, copied.metric) == ("why", 0.5)
