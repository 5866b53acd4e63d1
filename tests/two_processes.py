"""Two processes of a program side by side, which meet over gloo."""

import subprocess
from collections.abc import Mapping, Sequence


def outputs_of_two(program: Sequence[str], environment: Mapping[str, str], limit_s: float) -> list[str]:
    """What each of the two prints, once both have ended well; neither outlives the other's failure.

    Each gets its rank, 0 or 1, as the last argument.
    """
    processes = [
        subprocess.Popen(
            [*program, rank],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        outputs = [process.communicate(timeout=limit_s) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in outputs]
