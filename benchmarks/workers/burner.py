"""A busy process beside a measurement.

`python -m tiffin.benchmarks.workers.burner PARENT [CPU ...]` spins until it is killed, or its parent, of that pid.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from ... import machine


@contextlib.contextmanager
def burners(count: int, cpus: Sequence[int] | None = None) -> Iterator[None]:
    """So many processes that each keep a core busy, on the cores that the workers use, ended with the block."""
    words = [sys.executable, "-m", "tiffin.benchmarks.workers.burner", *map(str, (os.getpid(), *(cpus or ())))]
    running = [subprocess.Popen(words, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def main() -> None:
    """Spin."""
    parent, *cpus = map(int, sys.argv[1:])
    machine.die_with_parent(parent)
    if cpus:
        os.sched_setaffinity(0, cpus)
    while True:
        pass


if __name__ == "__main__":
    main()
