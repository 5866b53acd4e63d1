import logging
import warnings

import pytest
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from crossview.console import RunProgressBar, quiet_libraries

LIGHTNING = "pytorch_lightning.utilities.rank_zero"


@pytest.fixture(autouse=True)
def quiet():
    names = (LIGHTNING, "lightning_fabric.utilities.rank_zero", "pytorch_lightning")
    before = {name: list(logging.getLogger(name).filters) for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        quiet_libraries()
        yield
    for name, filters in before.items():
        logging.getLogger(name).filters[:] = filters


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("💡 Tip: For seamless cloud uploads ...", False),
        ("Loading `train_dataloader` to estimate number of stepping batches.", False),
        ("TPU available: False, using: 0 TPU cores", False),
        ("`Trainer(val_check_interval=1.0)` was configured so validation will run at the end", False),
        ("`Trainer.fit` stopped: `max_epochs=2` reached.", True),
        ("data.root is not set: this run uses the rendered sample in DIR", True),  # our own, through rank_zero_info
        ("A Tip: in the middle of a message", True),
    ],
)
def test_messages(message, shown, caplog):
    caplog.set_level(logging.INFO)
    rank_zero_info(message)
    assert (message in caplog.text) is shown


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Experiment logs directory outputs/x exists and is not empty. Previous log files ...", False),
        ("The number of training batches (2) is smaller than the logging interval", False),
        ("The dataloader does not have many workers", True),
    ],
)
def test_warnings(message, shown):
    with warnings.catch_warnings(record=True) as caught:
        rank_zero_warn(message)
    assert [str(warning.message) for warning in caught] == [message] * shown


def test_filters_are_added_once():
    count = len(logging.getLogger(LIGHTNING).filters)
    quiet_libraries()
    assert len(logging.getLogger(LIGHTNING).filters) == count


def test_progress_bar_shows_no_version_number():
    class Stub:
        loggers = ()
        progress_bar_metrics = {"train/loss/total": 3.0, "v_num": 7}  # noqa: RUF012

    assert RunProgressBar().get_metrics(Stub(), Stub()) == {"train/loss/total": 3.0}  # type: ignore[arg-type]
