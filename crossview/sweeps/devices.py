"""Jobs of a sweep that would start further processes. Imports nothing heavy: it is asked before a job starts."""

from collections.abc import Mapping
from typing import Any


def refusal(trainer: Mapping[str, Any]) -> str | None:
    """Why a job with this trainer cannot be part of a sweep; None if it can.

    The further processes of a job start with the same command line, which is that of the whole sweep.

    Args:
        trainer: config of the trainer.
    """
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    one = ("1", "auto") if trainer.get("accelerator") == "cpu" else ("1",)  # all of the GPUs may be several
    single = str(devices) in one or (not isinstance(devices, str | int) and len(devices) == 1)
    if single and nodes == 1:
        return None
    found = f"trainer.devices: found {devices}" if not single else f"trainer.num_nodes: found {nodes}"
    return (
        f"{found} in a sweep (-m), expected 1, since each further process would start the whole sweep again; "
        "give every job one device (trainer.devices=1), several jobs at once with hydra/launcher=joblib, "
        "or start such runs one by one, without -m"
    )
