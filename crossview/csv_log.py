"""``metrics.csv`` of a run, which goes on where a checkpoint is from."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from crossview.files import write_whole


class RunCSVLogger(CSVLogger):
    """Lightning's, which can go on with an earlier file.

    Args:
        continues: anything but None: rows are added to the file that is there; else it is replaced.
        settings: of Lightning's logger.
    """

    def __init__(self, continues: object = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._continues = continues is not None

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """What writes the file."""
        if self._experiment is None and self._continues:
            self._experiment = _ContinuedFile(self.log_dir)
        writer: ExperimentWriter = super().experiment
        return writer


class _ContinuedFile(ExperimentWriter):
    """Adds rows to a file that is there, and columns without a moment in which it is not whole."""

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self.metrics_keys = next(csv.reader(file), [])

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        with path.open(newline="", encoding="utf-8") as file:
            _write(path, fieldnames, list(csv.DictReader(file)))


def forget_after(path: Path, step: int, validation_is_due: bool) -> None:
    """Removes the rows that a run will write again.

    Args:
        path: of ``metrics.csv``; may not exist.
        step: the last one that is done.
        validation_is_due: whether the validation after it is still to be done.
    """
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        fieldnames, rows = list(reader.fieldnames or []), list(reader)

    def is_kept(row: dict[str, str]) -> bool:
        if not (row.get("step") or "").isdigit():
            return False  # cut off when the disk was full or the machine went down
        validated = any(value and key and key.startswith("val/") for key, value in row.items())
        return int(row["step"]) < step + (not (validated and validation_is_due))

    kept = [row for row in rows if is_kept(row)]
    if len(kept) < len(rows):
        _write(path, fieldnames, kept)


def _write(path: Path, fieldnames: list[str], rows: list[dict[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())
