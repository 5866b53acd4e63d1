"""Training, validation and test parts of a set of images that has none: drawn by name and seed.

Every image is drawn on its own, so images that are added later do not move the others from part to part, and the same
image is in the same part on every machine. The parts have the asked shares on average: of 200 images with a share of a
fifth 40 are expected, give or take 6.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crossview.data.errors import DataError

PARTS: Final = ("train", "val", "test")
_KEYS: Final = ("val", "test", "seed")


@dataclass(frozen=True, slots=True)
class RandomSplit:
    """Shares of the parts.

    Attributes:
        val: Share of the images to validate on, 0 to 1.
        test: Share of the images to test on, 0 to 1; the rest is to train on.
        seed: Another seed, another split.
    """

    val: float = 0.1
    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to train on.

        Raises:
            DataError: If a share is negative, or there are more images to validate and test on than there are.
        """
        if self.val < 0 or self.test < 0 or self.val + self.test >= 1:
            raise DataError(
                f"split has val {self.val} and test {self.test}; expected shares of 0 or more that leave something to "
                "train on, such as {val: 0.1, test: 0.2, seed: 0}"
            )

    @staticmethod
    def of(settings: Mapping[str, float]) -> RandomSplit:
        """The split that a config describes.

        Raises:
            DataError: If it has keys that mean nothing.
        """
        if others := sorted(set(settings) - set(_KEYS)):
            raise DataError(f"split has {', '.join(others)}; expected only {', '.join(_KEYS)}")
        return RandomSplit(**settings)  # type: ignore[arg-type]  # the seed is whole, as written

    def part(self, name: str) -> str:
        """The part that the view of a name is in: train, val or test."""
        digest = hashlib.blake2b(f"{self.seed}/{name}".encode(), digest_size=8).digest()
        drawn = int.from_bytes(digest, "big") / 2**64
        if drawn < self.test:
            return "test"
        return "val" if drawn < self.test + self.val else "train"
