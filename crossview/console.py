"""What a run prints: messages that a person can use, without the libraries' advertisements and notes to themselves."""

import logging
import warnings

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar

# Beginnings of messages that say nothing about this run.
NOISE = (
    "💡 Tip:",
    "Trainer already configured with model summary callbacks",
    "Loading `train_dataloader` to estimate",
    "TPU available",
    "`Trainer(val_check_interval=1.0)` was configured",
)
NOISY_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\).*",  # between Lightning and torch
    r".*Experiment logs directory .* exists and is not empty.*",  # the run folder is ours and holds more than the log
    r".*Checkpoint directory .* exists and is not empty.*",  # that of a run that goes on
    r".*The number of training batches .* is smaller than the logging interval.*",
    r".*Found \d+ module\(s\) in eval mode at the start of training.*",  # frozen norms are, on purpose
    r".*Precision .* is not supported by the model summary.*",
    r".*It is recommended to use .*sync_dist=True.*",  # metrics are those of all processes already
    r".*Starting from v1\.9\.0, `tensorboardX` has been removed.*",
)


def _is_useful(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NOISE)


def quiet_libraries() -> None:
    """Filters what Lightning prints about itself."""
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.rank_zero", "pytorch_lightning"):
        target = logging.getLogger(name)
        if _is_useful not in target.filters:
            target.addFilter(_is_useful)
    for pattern in NOISY_WARNINGS:
        warnings.filterwarnings("ignore", message=pattern)


class RunProgressBar(RichProgressBar):
    """Lightning's progress bar without the number of a version, which our run folders do not have."""

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The metrics shown beside the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics
