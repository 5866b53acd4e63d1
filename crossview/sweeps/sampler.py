"""Optuna's TPE with random numbers that belong to the trial, so that a study that resumes does not repeat itself."""

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial


class ResumableTPE(BaseSampler):
    """Tree-structured Parzen estimator, seeded anew for every trial by the seed and the trial's number.

    A sampler with one seed for the whole study starts from its first random numbers when the study is taken up again:
    the trials until ``n_startup_trials`` would be those that are there already. Here a study of two halves draws what
    it would have drawn in one go.

    Source: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011.
    """

    def __init__(self, seed: int, **settings: Any) -> None:  # those of Optuna's TPESampler
        """Takes the seed and further settings of `optuna.samplers.TPESampler`."""
        self._seed = seed
        self._settings = settings
        self._samplers: dict[int, TPESampler] = {}

    def _of(self, trial: FrozenTrial) -> TPESampler:
        if trial.number not in self._samplers:
            # Consecutive seeds are independent: NumPy hashes them.
            seed = self._seed * 1_000_003 + trial.number
            self._samplers[trial.number] = TPESampler(seed=seed % 2**32, **self._settings)
        return self._samplers[trial.number]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Parameters that are drawn together."""
        space: dict[str, BaseDistribution] = self._of(trial).infer_relative_search_space(study, trial)
        return space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draws the parameters of `infer_relative_search_space`."""
        values: dict[str, Any] = self._of(trial).sample_relative(study, trial, search_space)
        return values

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401
        """Draws one parameter."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)
