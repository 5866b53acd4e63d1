"""Processes of one run; what torchrun's agree on is tested in test_distributed.py."""

import pytest

from crossview.command import config_folder, run_folder
from crossview.launch import agreed, by_torchrun, console_level, log_name, rank

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID")


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_a_process_by_itself_is_the_first():
    assert (rank(), by_torchrun()) == (0, False)
    assert agreed("folder") == run_folder(None, "folder") == "folder"
    assert config_folder(None) == ".hydra"
    assert (log_name("train"), console_level()) == ("train", "INFO")


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
