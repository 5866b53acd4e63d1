"""Kills a small run at random moments and goes on with it, again and again: ``python -m benchmarks.kills``.

Three of ten kills come while the command starts, the others at a random moment after its first step. Prints what each
cost: the steps that were done since the last checkpoint, and are done again. At the end the weights are compared with
those of a run that nobody killed.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from crossview.launch import last_checkpoint
from tests.data.make_voc import write_pair_dataset

EVERY_N_STEPS = 5
WHILE_STARTING = 0.3  # share of the kills
FIRST_START_S = 10.0  # a guess, until one was measured
SETTINGS = [
    "model=ssd7",
    "model.backbone.channels=[4,4,8,8,8,8,4]",
    "data.image_size=[96,192]",
    "data.batch_size=2",
    "data.num_workers=1",
    "callbacks.pictures=null",
    "callbacks.progress=null",
    f"callbacks.last.every_n_steps={EVERY_N_STEPS}",
    "logger.tensorboard=null",
    "trainer.deterministic=true",
    "trainer.log_every_n_steps=1",
]


class Pulse(pl.Callback):
    """Keeps the number of the process and of its last finished step in a file, for whoever watches the run."""

    def __init__(self, path: str) -> None:
        """Takes the file."""
        self.path = Path(path)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: torch.Tensor | Mapping[str, Any] | None,
        batch: Any,  # noqa: ANN401  # whatever the data module hands out
        batch_idx: int,
    ) -> None:
        """Writes them at once: a file that is replaced is never half written."""
        new = self.path.with_suffix(".new")
        new.write_text(f"{os.getpid()} {trainer.global_step}")
        new.replace(self.path)


@dataclass
class Tally:
    """What the kills came to.

    Attributes:
        kills: so many.
        starting: of them before the first step of their process.
        lost: steps that each of the others cost.
        faults: what should not have happened.
    """

    kills: int
    starting: int
    lost: list[int]
    faults: list[str]

    def __str__(self) -> str:
        """A few lines."""
        mean, most = sum(self.lost) / max(len(self.lost), 1), max(self.lost, default=0)
        return "\n".join(
            [
                f"{self.kills} kills, {self.starting} of them while the command started",
                f"went on after {self.kills - len(self.faults)} of {self.kills}",
                f"the others lost {mean:.1f} steps in the mean, {most} at most; every {EVERY_N_STEPS} are saved",
                *self.faults,
            ]
        )


def main() -> None:
    """Runs the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=100, help="of 20 steps")
    parser.add_argument(
        "--most-seconds", type=float, default=4.0, help="longest life of a process after its first step"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if measure(Path(folder), options) else 1)


def measure(folder: Path, options: argparse.Namespace) -> bool:
    """Makes both runs in a folder, prints what came of them, and says whether it is as it should be."""
    root = write_pair_dataset(folder / "data", pairs={"train": 40, "val": 4, "test": 2})
    run, pulse = folder / "run", folder / "pulse"
    watched = f"+callbacks.pulse={{_target_:benchmarks.kills.Pulse,path:{pulse}}}"
    settings = [*SETTINGS, f"data.root={root}", f"trainer.max_epochs={options.epochs}", watched]
    rng, tally, start_s = random.Random(options.seed), Tally(0, 0, [], []), FIRST_START_S
    while tally.kills < options.kills:
        before = step_of(run)
        process = start([*settings, f"hydra.run.dir={run}"] if before is None else [f"resume={run}"], folder)
        begun = time.monotonic()
        if rng.random() < WHILE_STARTING:
            ended = wait(process, rng.uniform(0.0, start_s))
        else:
            ended = wait(process, None, pulse)
            start_s = time.monotonic() - begun
            ended = ended or wait(process, rng.uniform(0.0, options.most_seconds))
        if ended and process.returncode == 0:
            print(f"the run ended after {tally.kills} kills; for more of them: --epochs")
            break
        if ended:
            print(f"after {tally.kills} kills the run did not go on:\n{said(process)}")
            return False
        process.kill()
        process.wait()
        count(tally, process.pid, before, step_of(run), pulse)
    print(tally)
    return finish(run, folder, settings) and tally.kills == options.kills and not tally.faults


def count(tally: Tally, process: int, before: int | None, after: int | None, pulse: Path) -> None:
    """Adds one kill, given the steps of the checkpoint before the process started and now."""
    tally.kills += 1
    owner, reached = (int(word) for word in pulse.read_text().split()) if pulse.is_file() else (0, 0)
    if owner == process:
        tally.lost.append(reached - (after or 0))
    else:
        tally.starting += 1
    lost = tally.lost[-1] if owner == process else 0
    if (after or 0) < (before or 0) or lost > EVERY_N_STEPS:
        tally.faults.append(f"kill {tally.kills}: checkpoint of step {before} -> {after}, {lost} steps lost")
    moment = f"after step {reached}" if owner == process else "while it started"
    print(f"kill {tally.kills:3} {moment}: checkpoint of step {before} -> {after}", flush=True)


def finish(run: Path, folder: Path, settings: list[str]) -> bool:
    """Lets the run end, makes another one without kills, and says whether they end alike."""
    call = [f"resume={run}"] if step_of(run) is not None else [*settings, f"hydra.run.dir={run}"]
    for arguments in (call, [*settings, f"hydra.run.dir={folder / 'whole'}"]):
        process = start(arguments, folder)
        wait(process, None)
        if process.returncode != 0:
            print(f"did not end well:\n{said(process)}")
            return False
    runs = (run, folder / "whole")
    one, other = (torch.load(last_checkpoint(each), weights_only=True)["state_dict"] for each in runs)
    same = all(torch.equal(one[key], other[key]) for key in other)
    print(f"the final weights are {'the same as' if same else 'NOT those'} of a run without kills")
    return same


def start(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    """Starts the command as a user does."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [sys.executable, "-m", "crossview.train", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> str:
    """What an ended process had to say about it."""
    return process.stderr.read() if process.stderr else ""


def wait(process: subprocess.Popen[str], seconds: float | None, pulse: Path | None = None) -> bool:
    """Waits for the end of a process, but no longer than some seconds, or than its first step.

    Args:
        process: to wait for.
        seconds: at most; None: as long as it takes.
        pulse: file of `Pulse`; None: its steps are of no importance.

    Returns:
        Whether the process ended by itself.
    """
    end = None if seconds is None else time.monotonic() + seconds
    while process.poll() is None:
        if end is not None and time.monotonic() > end:
            return False
        if pulse is not None and pulse.is_file() and pulse.read_text().startswith(f"{process.pid} "):
            return False
        time.sleep(0.01)
    return True


def step_of(run: Path) -> int | None:
    """The step of the last checkpoint, None if there is none yet; one that does not load is an error."""
    path = last_checkpoint(run)
    return int(torch.load(path, weights_only=True)["global_step"]) if path.is_file() else None


if __name__ == "__main__":
    main()
