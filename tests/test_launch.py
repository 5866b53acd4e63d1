"""Processes of one run; a run by torchrun is in test_distributed.py."""

import socket
import subprocess
import sys

import pytest

from crossview import command
from crossview.build import ConfigError
from crossview.command import config_folder, run_folder
from crossview.launch import agreed, by_torchrun, check_devices, console_level, log_name, rank
from tests.conftest import command_environment

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID")


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_a_process_by_itself_is_the_first():
    assert (rank(), by_torchrun()) == (0, False)
    assert agreed("folder") == "folder"
    assert config_folder(None) == ".hydra"
    assert (log_name("train"), console_level()) == ("train", "INFO")


def test_each_run_has_a_folder_of_its_own(tmp_path):
    name = str(tmp_path / "runs" / "now")
    taken = []
    for _ in range(3):  # three processes that start within the same second
        command._claimed.cache_clear()
        taken += [run_folder(None, name), run_folder(None, name)]
    assert taken == [name, name, f"{name}_2", f"{name}_2", f"{name}_3", f"{name}_3"]
    assert all((tmp_path / "runs" / folder).is_dir() for folder in ("now", "now_2", "now_3"))


@pytest.mark.parametrize("parent", ["file", "gone"])
def test_a_folder_that_cannot_be_made_is_left_to_hydra(tmp_path, parent):
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to(tmp_path / "unmounted drive")
    name = str(tmp_path / parent / "now")
    assert run_folder(None, name) == name


def test_a_further_process_leaves_config_and_console_to_the_first(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert rank() == 1
    assert config_folder(None) is None
    assert console_level() == "WARNING"
    assert log_name("train") == log_name("train_ddp_process_1") == "train_rank_1"


def test_the_number_is_that_among_all_nodes(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("RANK", "4")
    assert rank() == 4


def test_one_process_of_torchrun_waits_for_nobody(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert by_torchrun()
    assert agreed("folder") == "folder"


def test_processes_of_torchrun_agree_on_what_the_first_one_says(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    code = "import os; from crossview.command import run_folder; print(run_folder(None, os.environ['NAME']))"
    started = []
    for number in ("1", "0"):
        name = str(tmp_path / number)
        own = command_environment(tmp_path) | common | {"RANK": number, "LOCAL_RANK": number, "NAME": name}
        started.append(subprocess.Popen([sys.executable, "-c", code], env=own, stdout=subprocess.PIPE, text=True))
    assert [process.communicate(timeout=240)[0].strip() for process in started] == [str(tmp_path / "0")] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["0"], "one makes the folder"


@pytest.mark.parametrize(("devices", "nodes", "started", "fits"), [(2, 2, 4, True), (1, 1, 2, False), (2, 1, 4, False)])
def test_torchrun_starts_a_process_for_each_device(devices, nodes, started, fits, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", str(started))
    if fits:
        check_devices(devices, nodes)
        return
    with pytest.raises(
        ConfigError, match=rf"trainer\.devices: found {devices}, .* torchrun started {started} processes"
    ):
        check_devices(devices, nodes)


def test_without_torchrun_lightning_starts_them():
    check_devices(8, 2)
