"""How Lightning's checkpoints get to the disk and back: whole or not at all, and as plain data."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from crossview.files import write_whole
from crossview.user_errors import UserError


class SafeCheckpointIO(TorchCheckpointIO):
    """Replaces a checkpoint only by one that is complete on the disk; executes nothing that a file holds."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ANN401  # Lightning's signature
    ) -> None:
        """Writes a checkpoint.

        Raises:
            UserError: the disk is full or read-only; an earlier checkpoint of this name is as it was.
        """
        target = Path(path)
        # Through memory: torch hides why a file cannot be written.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, buffer.getbuffer())
        except OSError as error:
            kept = "; the earlier one is intact" if target.is_file() else ""
            raise UserError(
                f"{target} cannot be written: {error.strerror or error}{kept}. Make room or let the folder be "
                f"written, then go on with: python -m crossview.train resume={target.parent.parent}"
            ) from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = "cpu",  # noqa: ANN401  # Lightning's signature
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """The content of a checkpoint, always loaded as plain data."""
        content: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only=True)
        return content
