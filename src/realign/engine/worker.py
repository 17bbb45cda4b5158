"""What every worker process does around its work: logging, threads, and saying how it ended.

A worker module ends in `if __name__ == "__main__": work(main)`. It is started as
`python -m module spec.json`; how it ended is written beside the spec, since launchers between a
worker and its parent lose exit codes.
"""

import json
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from realign.artifacts.command import Interrupted, UserError
from realign.artifacts.disk import explain_full_disk
from realign.engine.launch import leave_with_parent, outcome_path
from realign.engine.logs import start_logging

log = logging.getLogger(__name__)
OUT_OF_MEMORY = 76  # exit code: distinct from failure and from `Interrupted`
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or the machine had no more memory to give."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _OUT_OF_MEMORY)


def first_line(error: BaseException) -> str:
    """An error's message in one line; the name of its type where it has none, as a bare `MemoryError`."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def work(main: Callable[[Mapping[str, Any], Path], None]) -> None:
    """Run a worker's `main(spec, path of the spec)` and leave with an exit code that tells how it went."""
    path = Path(sys.argv[1])
    spec = json.loads(path.read_text(encoding="utf-8"))
    rank = int(os.environ.get("RANK", 0))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the launcher's word to stop at once, in any call
    if sys.platform == "linux":
        leave_with_parent()
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    start_logging(Path(spec["log"]) if spec.get("log") else None, quiet=rank > 0)
    if threads := spec.get("threads"):
        torch.set_num_threads(int(threads))
    try:
        main(spec, path)
    except Interrupted as leaving:
        _leave(path, rank, "interrupted", str(leaving), Interrupted.exit_code)
    except UserError as error:
        _leave(path, rank, "user_error", str(error), 1)
    except Exception as error:
        if sentence := explain_full_disk(error, path.parent):
            _leave(path, rank, "user_error", sentence, 1)
        log.exception("rank %d stopped", rank)
        if is_out_of_memory(error):
            _leave(path, rank, "out_of_memory", first_line(error), OUT_OF_MEMORY)
        _leave(path, rank, "failed", f"{type(error).__name__}: {error}", 1)
    _leave(path, rank, "done", "", 0)


def _leave(spec: Path, rank: int, outcome: str, message: str, code: int) -> None:
    text = json.dumps({"outcome": outcome, "message": message, "rank": rank, "time": time.time()})
    place = outcome_path(spec, rank)
    with place.open("r+" if place.exists() else "w", encoding="utf-8") as stream:  # in the room made for it
        stream.write(text)
        stream.truncate()
    sys.stdout.flush()
    sys.stderr.flush()
    logging.shutdown()
    # A worker that failed must not wait in some library's exit handler for peers that are gone; and one of
    # several that is done may be aborted there, by a thread of torch's that still runs when its owner ends.
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1
    sys.exit(0) if alone and not code else os._exit(code)
