"""Which jobs of a sweep are ended early."""

import json
from types import SimpleNamespace

import pytest
import torch

from crossview.callbacks.pruning import MedianPruning
from crossview.sweeps.jobs import Job, Pruned, write_job
from tests.tiny import data_module, quiet_trainer, tiny_module

METRIC = "val/detection/ap50"


def start_job(sweep_dir, number, history=None):
    """A job of the sweep, with its best values after each validation."""
    run_dir = sweep_dir / str(number)
    run_dir.mkdir(parents=True)
    write_job(Job(number, str(sweep_dir), str(run_dir), {}, METRIC, "max", 0.0))
    if history is not None:
        (run_dir / "validations.json").write_text(json.dumps(history))
    return run_dir


def validate(callback, *values):
    for value in values:
        metrics = {} if value is None else {METRIC: torch.tensor(value)}
        callback.on_validation_end(SimpleNamespace(sanity_checking=False, callback_metrics=metrics), None)


def pruning(run_dir, **settings):
    return MedianPruning(str(run_dir), METRIC, **{"min_jobs": 3, "min_validations": 2, **settings})


@pytest.fixture
def others(tmp_path):
    for number, history in enumerate([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]):
        start_job(tmp_path, number, history)
    return tmp_path


def test_a_job_below_the_median_is_ended(others):
    callback = pruning(start_job(others, 3))
    validate(callback, 0.0)  # the first validation is free
    with pytest.raises(
        Pruned, match=r"0\.3900 at best after 2 validations, the median of 3 other jobs 0\.4000"
    ) as ended:
        validate(callback, 0.39)
    assert ended.value.metric == pytest.approx(0.39)


def test_a_job_at_the_median_goes_on(others):
    run_dir = start_job(others, 3)
    validate(pruning(run_dir), 0.0, 0.4)
    assert json.loads((run_dir / "validations.json").read_text()) == pytest.approx([0.0, 0.4])


def test_the_best_value_so_far_counts(others):
    validate(pruning(start_job(others, 3)), 0.5, 0.0)


def test_lower_may_be_better(others):
    validate(pruning(start_job(others, 3), mode="min"), 0.5, 0.39)
    with pytest.raises(Pruned):
        validate(pruning(start_job(others, 4), mode="min"), 0.7, 0.5)


def test_nothing_is_ended_before_enough_jobs_got_as_far(others):
    callback = pruning(start_job(others, 3), min_validations=1, min_jobs=3)
    (others / "0" / "validations.json").write_text("[0.1]")
    with pytest.raises(Pruned):
        validate(callback, 0.0)
    validate(callback, 0.0)  # only two of the others have a second validation


def test_a_metric_that_is_no_number_is_not_compared(others):
    (others / "2" / "validations.json").write_text("[null, null]")
    run_dir = start_job(others, 3)
    validate(pruning(run_dir, min_jobs=2), float("nan"), None)
    assert json.loads((run_dir / "validations.json").read_text()) == [None, None]
    validate(pruning(start_job(others, 4)), 0.0, 0.0)  # one of the three has no number either


def test_a_run_outside_of_a_sweep_is_left_alone(others, tmp_path):
    run_dir = others / "single"
    run_dir.mkdir()
    validate(pruning(run_dir), 0.0, 0.0)
    assert not list(run_dir.iterdir())


@pytest.mark.parametrize("settings", [{"mode": "best"}, {"min_jobs": 0}, {"min_validations": 0}])
def test_bad_settings_are_refused(settings, tmp_path):
    with pytest.raises(ValueError, match=r"found .*, expected"):
        pruning(tmp_path, **settings)


def test_lightning_hands_on_that_the_job_was_ended(others, pair_root):
    for number in range(3):
        (others / str(number) / "validations.json").write_text("[2.0]")
    callback = pruning(start_job(others, 3), min_validations=1)
    trainer = quiet_trainer(callbacks=[callback], max_steps=-1, max_epochs=5)
    with pytest.raises(Pruned):
        trainer.fit(tiny_module(), datamodule=data_module(pair_root))
    assert trainer.current_epoch == 0


def test_a_job_that_goes_on_keeps_its_values(others):
    run_dir = start_job(others, 3)
    before = pruning(run_dir)
    validate(before, 0.1, 0.5)
    after = pruning(run_dir)
    after.load_state_dict(before.state_dict())
    validate(after, 0.4)
    assert json.loads((run_dir / "validations.json").read_text()) == pytest.approx([0.1, 0.5, 0.5])
