"""What a transfer did, layer by layer."""

from dataclasses import dataclass
from pathlib import Path

from crossview.detector.preprocessing import Preprocessing
from crossview.detector.weight_files import report_row


@dataclass(frozen=True)
class TransferReport:
    """What a file gave to a detector; ``str()`` is a short table.

    Attributes:
        path: The file.
        source: Name of its format.
        copied: Layers that are as in the file (a box head possibly with its anchors in another order).
        sampled: Class heads of which background and the classes with a source were taken.
        random: Layers that the file does not have; they stay as they were.
        unused: Keys of the file that the detector has no use for.
        classes: Each of my classes with the class of the file that it starts from, None for a random start.
        notes: What else a user should know, one line each.
        preprocessing: Standardisation that belongs to the weights; None if the file does not tell.
    """

    path: Path
    source: str
    copied: tuple[str, ...]
    sampled: tuple[str, ...]
    random: tuple[str, ...]
    unused: tuple[str, ...]
    classes: tuple[tuple[str, str | None], ...]
    notes: tuple[str, ...]
    preprocessing: Preprocessing | None

    def __str__(self) -> str:
        """Returns a row each for what was copied, sampled, left random and unused, for classes, notes and images."""
        counted = {"copied": self.copied, "sampled": self.sampled, "random": self.random, "unused": self.unused}
        origins = [f"{mine} from {theirs}" if theirs else f"{mine} at random" for mine, theirs in self.classes]
        rows = [f"Detector weights, {self.source}: {self.path}"]
        rows += [report_row(title, names) for title, names in counted.items()]
        rows.append(report_row("classes", origins))
        rows += [f"  note    {note}" for note in self.notes]
        return "\n".join([*rows, f"  images  {self.preprocessing or 'as before, the file does not tell'}"])
