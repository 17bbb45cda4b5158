"""Starting a worker module on one process, on many of this machine, or on many machines.

One process is started directly; several through torchrun; several machines inside a SLURM
allocation through `srun` with one torchrun each. Signals that ask this process to leave are handed
to the workers as a notice file, which reaches other machines as well. How each worker ended is
read from the files they write, because launchers in between lose exit codes.
"""

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from realign.artifacts.command import Interrupted, UserError
from realign.artifacts.hashing import canonical_json
from realign.engine.logs import log_file
from realign.engine.signals import Leaving
from realign.engine.threads import THREAD_VARIABLES
from realign.engine.zygote import is_warm

log = logging.getLogger(__name__)
POLL_SECONDS = 0.05
SAVING_SECONDS = 3600  # torchrun would kill after 30 s what saves its work; a cluster has limits of its own
FIRST_PORT, PORTS = 20000, 12000  # where machines meet: below what systems give out by themselves


class WorkerFailed(RuntimeError):
    """A worker process failed for a reason of its own; its log says which."""


class OutOfMemory(WorkerFailed):
    """A worker ran out of memory; smaller chunks of the same batch may do."""


def outcome_path(spec: Path, rank: int) -> Path:
    """Where a worker says how it ended."""
    return spec.with_name(f"{spec.name}.outcome-{rank}.json")


def notice_path(spec: Path) -> Path:
    """The file whose existence asks the workers to save and leave."""
    return spec.with_name(f"{spec.name}.leave")


def launch(
    module: str,
    spec: Mapping[str, Any],
    path: Path,
    processes: int = 1,
    nodes: int = 1,
    threads: int | None = None,
) -> None:
    """Run `python -m module path` on all processes, with `spec` as the JSON that `path` holds.

    `processes` counts those on each machine, `threads` those of each process. Returns when all are
    done; raises `Interrupted` when they saved and left, `OutOfMemory`, `UserError` or `WorkerFailed`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f"{path.name}.*"):
        old.unlink()
    own = {"threads": threads or spec.get("threads"), "log": (file := log_file()) and str(file.resolve())}
    path.write_text(canonical_json({**spec, **own}), encoding="utf-8")
    for rank in range(processes * nodes):  # room for its last words, also where the disk is full by then
        outcome_path(path, rank).write_bytes(b" " * 4096)
    command = command_line(module, path, processes, nodes)
    if processes * nodes > 1:
        log.info("%d processes on %d nodes", processes * nodes, nodes)
    log.debug("launching %s", " ".join(command))
    environment = _environment(processes, nodes, threads)
    with Leaving(second=signal.default_int_handler) as leaving, _started(command, environment) as process:
        notice = notice_path(path)
        while (code := process.poll()) is None:
            if leaving.asked and not notice.exists():
                log.info("asked to leave (%s): the workers save after this step", leaving.received)
                notice.touch()
            time.sleep(POLL_SECONDS)
    _judge(path, code, processes * nodes)


def command_line(module: str, spec: Path, processes: int, nodes: int = 1) -> list[str]:
    """The words that start a worker module on so many processes and machines."""
    worker = ["-m", module, str(spec)]
    if processes == nodes == 1:
        return [sys.executable, *(["-m", "realign.engine.zygote", *worker[1:]] if is_warm() else worker)]
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nproc-per-node={processes}",
        "--max-restarts=0",
        "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
        f"--shutdown-timeout={SAVING_SECONDS}",
    ]
    if nodes == 1:
        return [*torchrun, "--standalone", *worker]
    job, head = _allocation(nodes)
    # One allocation may run several launches side by side: each meets under a name and a port of its own.
    meeting = f"{job}-{zlib.crc32(str(spec.resolve()).encode()):08x}"
    port = FIRST_PORT + zlib.crc32(meeting.encode()) % PORTS
    return [
        *("srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"),
        *("--mem=0", "--cpu-bind=none", "--kill-on-bad-exit=1"),  # all that the allocation has
        *((f"--cpus-per-task={cores}",) if (cores := os.environ.get("SLURM_CPUS_PER_TASK")) else ()),
        # Addresses as SLURM knows them: any other way of meeting asks what names the network knows.
        *("sh", "-c", 'PET_NODE_RANK=$SLURM_NODEID exec "$@"', "sh"),
        *torchrun,
        f"--nnodes={nodes}",
        *("--rdzv-backend=static", f"--rdzv-id={meeting}"),
        *(f"--master-addr={head}", f"--master-port={port}"),
        *worker,
    ]


def _allocation(nodes: int) -> tuple[str, str]:
    """The SLURM job that this process runs in, and the address where its workers meet."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        raise UserError(f"{nodes} machines are asked for, and this process runs in no SLURM allocation")
    # The variables tell of this process's step, which may be on one of the job's nodes alone.
    names = re.search(r"\bNodeList=(\S+)", _scontrol("show", "job", job))
    hosts = _scontrol("show", "hostnames", names[1]).split() if names else []
    if len(hosts) < nodes:
        raise UserError(f"{nodes} machines are asked for, and the SLURM allocation holds {len(hosts)}")
    # A node's name need not be one that the network knows; its address is.
    address = re.search(r"\bNodeAddr=(\S+)", _scontrol("show", "node", hosts[0]))
    return job, address[1] if address else hosts[0]


def _scontrol(*words: str) -> str:
    return subprocess.run(["scontrol", *words], check=True, capture_output=True, text=True).stdout


def _environment(processes: int, nodes: int, threads: int | None) -> dict[str, str]:
    environment = dict(os.environ)
    if nodes > 1:  # what is left of this process's own step would be the default of the next
        step = [n for n in environment if n.startswith(("SLURM_", "SRUN_")) and n != "SLURM_JOB_ID"]
        for name in step:
            del environment[name]
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)
    if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & environment.keys():
        # Chunks differ in length, and blocks of fixed sizes would leave gaps in a GPU's memory.
        environment["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    if processes * nodes > 1 or threads:
        # Spinning OpenMP threads of several processes on the same cores slow each other down many times.
        environment |= dict.fromkeys(THREAD_VARIABLES, str(threads or 1))
    return environment


@contextlib.contextmanager
def _started(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The workers' process, which does not outlive the block."""
    # A session of its own: a signal to this process's group reaches the workers once, as a notice.
    # It gets SIGTERM when this process dies, so that no worker is left without a parent.
    process = subprocess.Popen(
        command,
        env=environment,
        start_new_session=True,
        preexec_fn=leave_with_parent if sys.platform == "linux" else None,
    )
    last = signal.SIGTERM
    try:
        yield process
    except KeyboardInterrupt:
        last = signal.SIGINT  # which ends a worker in the middle of its step
        raise
    finally:
        if process.poll() is None:  # this process fails or is interrupted: leave no orphans
            os.killpg(process.pid, last)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def leave_with_parent() -> None:
    """In a child before it starts: get SIGTERM when the parent dies (Linux)."""
    import ctypes

    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def _judge(spec: Path, code: int, processes: int) -> None:
    """Raise what the workers' outcomes say. The first failure is the cause: its peers fail after it."""
    if code == 0:
        return
    texts = [file.read_text(encoding="utf-8") for file in spec.parent.glob(f"{spec.name}.outcome-*")]
    outcomes = [json.loads(text) for text in texts if text.strip()]
    said = {entry["outcome"]: entry["message"] for entry in sorted(outcomes, key=lambda e: -e["time"])}
    silent = sorted(set(range(processes)) - {entry["rank"] for entry in outcomes})
    ranks = f"rank{'s' if len(silent) > 1 else ''} {', '.join(map(str, silent))}"
    if "user_error" in said:
        raise UserError(said["user_error"])
    if "out_of_memory" in said:
        raise OutOfMemory(said["out_of_memory"])
    if "failed" in said and silent:
        raise WorkerFailed(f"{said['failed']} ({ranks} left no word: killed, perhaps for lack of memory)")
    if "failed" in said:
        raise WorkerFailed(said["failed"])
    if "interrupted" in said:
        raise Interrupted(said["interrupted"])
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        raise WorkerFailed("a worker was killed (SIGKILL); perhaps the machine ran out of memory")
    # torchrun's code is 1 whatever happened, and it ends the others of a killed one, perhaps before a word.
    why = ": killed, perhaps for lack of memory, or ended as they started" if processes > 1 else ""
    raise WorkerFailed(f"the workers ended with exit code {code}; {ranks} left no word{why}; see the log")
