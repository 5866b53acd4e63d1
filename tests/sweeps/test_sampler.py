"""A study that resumes draws what it would have drawn in one go."""

import logging

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, LogUniformDistribution

from crossview.sweeps.sampler import ResumableTPE

SPACE = {"lr": LogUniformDistribution(1e-5, 1e-2), "augment": CategoricalDistribution(["none", "ssd"])}


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def go_on(storage, trials, seed=0, **settings):
    """Runs trials of the study, as the sweeper does, and returns what all of the study drew."""
    sampler = ResumableTPE(seed, n_startup_trials=4, **settings)
    study = optuna.create_study(
        storage=storage, sampler=sampler, study_name="study", directions=["maximize"], load_if_exists=True
    )
    for _ in range(trials):
        trial = study.ask()
        for name, distribution in SPACE.items():
            trial._suggest(name, distribution)
        study.tell(trial, trial.params["lr"] + (trial.params["augment"] == "ssd"))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("multivariate", [False, True])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_two_halves_are_the_whole(multivariate):
    whole = go_on(optuna.storages.InMemoryStorage(), 10, multivariate=multivariate)
    storage = optuna.storages.InMemoryStorage()
    go_on(storage, 3, multivariate=multivariate)
    assert go_on(storage, 7, multivariate=multivariate) == whole
    assert len({params["lr"] for params in whole}) == 10


def test_the_seed_matters():
    first, second = (go_on(optuna.storages.InMemoryStorage(), 3, seed) for seed in (0, 1))
    assert first != second


def test_it_learns_what_is_better():
    drawn = go_on(optuna.storages.InMemoryStorage(), 30)[10:]
    assert sum(params["augment"] == "ssd" for params in drawn) > 14  # of 20; at random it would be 10


def test_a_study_in_a_file_resumes(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    first = go_on(storage, 2)
    assert go_on(storage, 1)[:2] == first
    assert len(first) == 2
