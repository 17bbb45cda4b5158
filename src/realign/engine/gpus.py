"""The GPUs of a machine without a scheduler, shared out among the jobs that run on it at once.

Every job would see all of them, and take the first: so a job locks a file for each GPU that it takes, until
it ends, and hides the others from itself.
"""

import fcntl
import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO
from urllib.parse import quote

log = logging.getLogger(__name__)
VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 2.0
_held: list[IO[bytes]] = []  # open for as long as this process lives, and locked


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them, without loading torch."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [name for name in map(str.strip, named.split(",")) if name not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return re.findall(r"^GPU (\d+)", listed.stdout, re.MULTILINE)


def take_gpus(count: int) -> None:
    """Wait for so many GPUs that no other job has taken; from now on, this process sees them alone.

    Nothing is taken where there are not as many at all. What SLURM gave to an allocation is shared out within
    it alone, since the GPUs of two allocations may have the same names.
    """
    there = visible_gpus()
    if _held or len(there) < count:
        return
    owner = [str(os.getuid()), *filter(None, [os.environ.get("SLURM_JOB_ID")])]
    folder = Path(tempfile.gettempdir()) / "-".join(["realign-gpus", *owner])
    folder.mkdir(exist_ok=True)
    told = False
    while not (taken := _take(folder, there, count)):
        if not told:
            log.info("waiting for %d of %d GPUs, which other jobs have taken", count, len(there))
            told = True
        time.sleep(POLL_SECONDS)
    os.environ[VISIBLE] = ",".join(taken)


def _take(folder: Path, there: list[str], count: int) -> list[str]:
    """As many GPUs as asked for, or none: two jobs that each hold a part would wait for ever."""
    taken: dict[str, IO[bytes]] = {}
    with (folder / "lock").open("ab") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        for name in there:
            stream: IO[bytes] = (folder / quote(name, safe="")).open("ab")  # MIG names may hold slashes
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.close()
                continue
            taken[name] = stream
            if len(taken) == count:
                _held.extend(taken.values())
                return list(taken)
        for stream in taken.values():
            stream.close()
    return []
