"""The processes of a run end together, whichever way one of them ends.

Lightning starts a process for each further device, and kills the first one when another ends with an exit code: also
where all of them end because a signal asked, if the first one takes a moment longer. And nobody tells the others when
the first one is gone, so that they wait for it as long as their means of communication does.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl

from crossview.launch import by_torchrun
from crossview.signals import Stopped, watch

MAIN = "CROSSVIEW_MAIN_PROCESS"  # in the environment of the processes that Lightning starts: the number of the first
POLL_S = 0.5
PATIENCE_S = 10.0  # with a process that is about to end


def end_with_parent() -> None:
    """Lets this process end as soon as the one that started it for a run is gone."""
    if "LOCAL_RANK" not in os.environ:
        os.environ[MAIN] = str(os.getpid())
        return
    parent = os.getppid() if by_torchrun() else int(os.environ.get(MAIN, os.getpid()))
    if parent != os.getpid():
        threading.Thread(target=_end_without, args=(parent,), name="parent-watch", daemon=True).start()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_S)
    os._exit(1)  # the main thread may wait for an answer that never comes


class Processes(pl.Callback):
    """Watches over the processes that Lightning started, and keeps the signals to `crossview.signals`."""

    def __init__(self) -> None:
        """Starts without further processes."""
        self._others: list[subprocess.Popen[bytes]] = []
        self._ending = threading.Event()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Takes the processes over from Lightning."""
        self._adopt(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the signals back: Lightning's handler would wait for the other processes within a signal."""
        watch.retake()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the signals back."""
        watch.retake()

    @contextmanager
    def ending_together(self, trainer: pl.Trainer) -> Iterator[None]:
        """Lets none of the processes live longer than what is done inside."""
        try:
            yield
        except BaseException as error:
            self._end(trainer, patience_s=PATIENCE_S if isinstance(error, Stopped) else 0.0)
            raise
        self._end(trainer, PATIENCE_S)

    def nothing_follows(self) -> None:
        """From now on the processes have nothing more to do together: how the others end concerns nobody."""
        self._ending.set()

    def _adopt(self, trainer: pl.Trainer) -> None:
        started: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
        if started:
            self._others = started.copy()
            started.clear()  # which ends Lightning's own watch
            threading.Thread(target=self._watch, name="process-watch", daemon=True).start()

    def _watch(self) -> None:
        """Ends everything if a process fails and this one does not notice: it may wait for an answer."""
        while not self._ending.wait(POLL_S):
            failed = [process for process in self._others if process.poll() not in (None, 0)]
            if failed and not self._ending.wait(PATIENCE_S):
                code = failed[0].returncode
                print(f"\nA process of this run ended with code {code}, so the run ends.", file=sys.stderr, flush=True)
                self._signal(signal.SIGKILL)
                os._exit(code if code > 0 else 1)

    def _end(self, trainer: pl.Trainer, patience_s: float) -> None:
        self._ending.set()
        self._others = self._others or getattr(trainer.strategy.launcher, "procs", [])
        if self._wait(patience_s):
            return
        self._signal(signal.SIGTERM)
        if not self._wait(PATIENCE_S / 2):
            self._signal(signal.SIGKILL)

    def _wait(self, seconds: float) -> bool:
        """Whether all others ended within this time."""
        end = time.monotonic() + seconds
        while any(process.poll() is None for process in self._others):
            if time.monotonic() >= end:
                return False
            time.sleep(POLL_S / 10)
        return True

    def _signal(self, number: int) -> None:
        for process in self._others:
            process.send_signal(number)
