"""Processes of one run that were started for it, by Lightning or by torchrun: they share one run folder.

Imports nothing heavy: Hydra asks it before a job starts. The names of the environment's variables are torchrun's, of
which Lightning sets ``LOCAL_RANK`` for the processes that it starts.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

from crossview.build import ConfigError


def rank() -> int:
    """The number of this process in its run, 0 for the first or only one."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def world_size() -> int:
    """How many processes torchrun started for this run; 1 if it was not torchrun."""
    return int(os.environ["WORLD_SIZE"]) if by_torchrun() else 1


def check_devices(devices: int, nodes: int) -> None:
    """Checks that the processes of torchrun are those of one run: others would overwrite each other's files.

    Raises:
        ConfigError: there is not one process for each device of each node.
    """
    if by_torchrun() and devices * nodes != world_size():
        raise ConfigError(
            f"trainer.devices: found {devices}, on {nodes} node(s), but torchrun started {world_size()} processes, one "
            "for each device; use trainer=ddp or ddp_cpu, with trainer.devices as --nproc_per_node and "
            "trainer.num_nodes as --nnodes"
        )


def agreed(value: str) -> str:
    """What the first process of the run says in place of ``value``, such as a folder named by the time.

    Lightning hands it to the processes that it starts. Those of torchrun start at once, and meet here.
    """
    return _from_first(value) if world_size() > 1 else value


@cache
def _store() -> Any:  # noqa: ANN401  # torch does not export its type
    """What the processes of torchrun meet at; kept, as the first process may be its host."""
    from torch.distributed.rendezvous import rendezvous

    return next(iter(rendezvous("env://")))[0]


def _from_first(value: str) -> str:
    store = _store()
    key = f"crossview/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if rank() == 0:
        store.set(key, value)
    return str(store.get(key), "utf-8")


def last_checkpoint(run_dir: Path) -> Path:
    """Where a run keeps the state from which it can go on."""
    return run_dir / "checkpoints" / "last.ckpt"


def taken(run_dir: Path) -> str | None:
    """Why a new run cannot go into a folder; None if it can."""
    if not last_checkpoint(run_dir).exists():
        return None
    return (
        f"hydra.run.dir: {run_dir} has the checkpoints of an earlier run, expected a new folder; "
        f"resume={run_dir} goes on with that run"
    )


def log_name(name: str) -> str:
    """The name of this process's log file, given that of the job."""
    return name if rank() == 0 else f"{name.partition('_ddp_process_')[0]}_rank_{rank()}"


def console_level() -> str:
    """From which level on messages go to the console: one process tells it all."""
    return "INFO" if rank() == 0 else "WARNING"
