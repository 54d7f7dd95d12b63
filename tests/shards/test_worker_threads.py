"""A worker computes in one thread, whatever imported numpy there before it was asked to."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os
import numpy
from shards.workers import Workers

def threads(_):
    return os.environ["OPENBLAS_NUM_THREADS"], len(os.listdir("/proc/self/task"))

if __name__ == "__main__":
    with Workers(1) as workers:
        print(*[found for _, found in workers.each(threads, [0])])
"""


def test_of_a_script_that_imports_numpy_first(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    without = {name: value for name, value in os.environ.items() if "_NUM_THREADS" not in name}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True, env=without
    )
    assert done.stdout == "('1', 2)\n"  # its own, and the one that ends it with its parent
