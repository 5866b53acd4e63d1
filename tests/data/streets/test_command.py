import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import crossview

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(crossview.__file__).parents[1])}
COMMAND = [sys.executable, "-m", "crossview.data.streets"]
SMALL = ["streets=3", "panoramas_per_street=5", "width=128"]


def run(arguments, cwd):
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_command_leaves_the_data_set_alone_behind(tmp_path):
    done = run(["out=data/streets", *SMALL, "workers=1"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"Data set of 3 streets: {tmp_path / 'data/streets'}"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["streets"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "out is not set"),
        (["out=x", "street=3"], "street"),  # an unknown key
        (["out=.", "streets=3"], "exists and is not an empty folder"),
    ],
)
def test_bad_arguments_end_with_a_message(tmp_path, arguments, message):
    (tmp_path / "mine").write_text("mine")
    done = run(arguments, tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_interruption_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "out=out", "streets=50", "width=128", "workers=2"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob(".out.partial-*/Images/*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)  # the second must not disturb the cleaning up
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "nothing was left behind" in errors
    assert list(tmp_path.iterdir()) == []
