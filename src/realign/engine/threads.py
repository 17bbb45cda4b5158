"""How many CPU threads the numeric libraries use, whether they are loaded yet or not."""

import os
import sys

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def set_threads(count: int) -> None:
    """Give the numeric libraries so many threads: by environment, and those that are loaded directly."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))
    # Threads that spin while they wait cost a factor of three to four when other work is on the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(count)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)
