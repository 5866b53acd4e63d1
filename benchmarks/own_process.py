"""Does the work of `benchmarks.timing.in_new_process`: ``python -m benchmarks.own_process TASK ANSWER``."""

import pickle
import sys
from pathlib import Path

from benchmarks.timing import with_peak

if __name__ == "__main__":
    work, arguments = pickle.loads(Path(sys.argv[1]).read_bytes())
    Path(sys.argv[2]).write_bytes(pickle.dumps(with_peak(work, *arguments)))
