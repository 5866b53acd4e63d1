import os
import signal

import pytest

from crossview.signals import Stopped, Watch


def test_before_the_training_a_signal_ends_at_once():
    watch = Watch()
    with pytest.raises(Stopped) as caught, watch.watching():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 143
    assert caught.value.signal is signal.SIGTERM


def test_a_second_interrupt_does_not_wait(monkeypatch, capfd):
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    watch = Watch()
    with watch.watching():
        watch.defer()
        signal.raise_signal(signal.SIGINT)
        assert watch.requested == signal.SIGINT
        assert "saving after this batch" in capfd.readouterr().err
        signal.raise_signal(signal.SIGTERM)  # schedulers send it again and again
        assert codes == []
        signal.raise_signal(signal.SIGINT)
        assert codes == [130]
        with pytest.raises(Stopped):
            watch.undefer()


@pytest.fixture
def interruptible():
    """Python's own answer to SIGINT, which a shell takes from what it starts in the background."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


def test_outside_signals_are_as_before(interruptible):
    watch = Watch()
    with watch.watching():
        pass
    watch.defer()  # as of a callback in a program with signals of its own
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert watch.requested == 0
