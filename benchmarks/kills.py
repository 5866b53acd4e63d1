"""Kills a small run at random moments and goes on with it, again and again: ``python -m benchmarks.kills``.

Prints how often it went on, and what each kill cost: the steps since the last checkpoint, which are done again. At the
end the weights are compared with those of a run that nobody killed.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from crossview.resume import last_checkpoint
from tests.data.make_voc import write_pair_dataset

SETTINGS = [
    "model=ssd7",
    "model.backbone.channels=[4,4,8,8,8,8,4]",
    "data.image_size=[96,192]",
    "data.batch_size=2",
    "data.num_workers=1",
    "callbacks.pictures=null",
    "callbacks.progress=null",
    "callbacks.last.every_n_steps=5",
    "logger.tensorboard=null",
    "trainer.deterministic=true",
    "trainer.log_every_n_steps=1",
]


def main() -> None:
    """Runs the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--most-seconds", type=float, default=30.0, help="longest life of a process before its kill")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Makes both runs in a folder and prints what came of them."""
    rng = random.Random(options.seed)
    root = write_pair_dataset(folder / "data", pairs={"train": 40, "val": 4, "test": 2})
    settings = [*SETTINGS, f"data.root={root}", f"trainer.max_epochs={options.epochs}"]
    run = folder / "run"
    first = [*settings, f"hydra.run.dir={run}"]
    went_on = kills = 0
    while kills < options.kills:
        before = step_of(run)
        process = start(first if before is None else [f"resume={run}"], folder)
        if not wait(process, rng.uniform(0.0, options.most_seconds)):
            kills += 1
            process.kill()
            process.wait()
        elif process.returncode != 0:
            print(f"after {kills} kills the run did not go on:\n{process.stderr.read() if process.stderr else ''}")
            return
        after, reached = step_of(run), last_logged_step(run)
        went_on += before is None or (after is not None and after >= before)
        print(f"kill {kills:3}: checkpoint of step {before} -> {after}, the log reached {reached}", flush=True)
        if process.returncode == 0:
            print("the run is over; more epochs or shorter lives for more kills")
            break
    finish(run, folder, settings, f"{went_on} of {kills} kills left a checkpoint that loads, none older than before")


def finish(run: Path, folder: Path, settings: list[str], summary: str) -> None:
    """Lets both runs end and compares them."""
    call = [f"resume={run}"] if step_of(run) is not None else [*settings, f"hydra.run.dir={run}"]
    for arguments in (call, [*settings, f"hydra.run.dir={folder / 'whole'}"]):
        process = start(arguments, folder)
        wait(process, None)
        if process.returncode != 0:
            print(f"did not end well:\n{process.stderr.read() if process.stderr else ''}")
            return
    runs = (run, folder / "whole")
    one, other = (torch.load(last_checkpoint(each), weights_only=True)["state_dict"] for each in runs)
    same = all(torch.equal(one[key], other[key]) for key in other)
    print(f"{summary}; the final weights are {'the same as' if same else 'NOT those'} of a run without kills")


def start(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    """Starts the command as a user does."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [sys.executable, "-m", "crossview.train", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def wait(process: subprocess.Popen[str], seconds: float | None) -> bool:
    """Whether the process ended by itself within this time."""
    end = None if seconds is None else time.monotonic() + seconds
    while process.poll() is None:
        if end is not None and time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def step_of(run: Path) -> int | None:
    """The step of the last checkpoint, None if there is none yet; one that does not load is an error."""
    path = last_checkpoint(run)
    return int(torch.load(path, weights_only=True)["global_step"]) if path.is_file() else None


def last_logged_step(run: Path) -> int | None:
    """The newest step in ``metrics.csv``."""
    path = run / "metrics.csv"
    if not path.is_file():
        return None
    header, *lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    column = header.index("step")
    return max((int(line[column]) for line in lines if len(line) == len(header)), default=None)


if __name__ == "__main__":
    main()
