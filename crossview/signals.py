"""Ends a run on SIGTERM or SIGINT (Ctrl-C) at a moment from which it can go on.

Before and after the training the run ends at once: there is nothing to save. During it, the training asks after every
batch (`Watch.requested`), saves, and ends. The exit code is 128 plus the number of the signal, as shells count: 143 for
SIGTERM, 130 for SIGINT. A second SIGINT ends the process at once, without saving.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
STANDARD_ERROR = 2


def outlive_signals() -> None:
    """Lets a process that serves another one, such as a loader's, live until that one has saved.

    Terminals, torchrun and SLURM signal all processes at once. SIGTERM of the one that is served ends this one, as
    before. Only Linux says who sent a signal; elsewhere only SIGINT is left to the one that is served.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_wait_for_parent, name="signals", daemon=True).start()


def _wait_for_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class Stopped(SystemExit):
    """A signal ended the run; carries the exit code."""

    def __init__(self, number: int) -> None:
        """Takes the number of the signal."""
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class Watch:
    """What the process was asked for by signals. There is one, `watch`, as signals are the process's."""

    def __init__(self) -> None:
        """Starts without a request."""
        self._received: int | None = None
        self._deferred = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Handles the signals inside; only in the main thread, as Python has it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier = {number: signal.getsignal(number) for number in SIGNALS}
        self._received, self._deferred = None, False
        self._install()
        try:
            yield
        finally:
            self._received, self._deferred = None, False
            for number, handler in earlier.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def retake(self) -> bool:
        """Takes the signals back from libraries that took them since; says whether they are watched at all."""
        watched = signal.getsignal(signal.SIGINT) == self._handle
        if watched and threading.current_thread() is threading.main_thread():
            self._install()
            return True
        return False

    def defer(self) -> None:
        """From now on someone asks `requested`."""
        self._deferred = self.retake()

    def undefer(self) -> None:
        """From now on nobody asks any more.

        Raises:
            Stopped: there is a request.
        """
        self._deferred = False
        if self._received is not None:
            raise Stopped(self._received)

    @property
    def requested(self) -> int:
        """The number of the signal received, 0 for none."""
        return self._received or 0

    def _install(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            if number == signal.SIGINT:
                os._exit(128 + number)
            return
        self._received = number
        if not self._deferred:
            raise Stopped(number)
        text = f"\n{signal.Signals(number).name}: saving after this batch (Ctrl-C again: end at once)\n"
        os.write(STANDARD_ERROR, text.encode())  # print may be what the signal interrupted


watch = Watch()
