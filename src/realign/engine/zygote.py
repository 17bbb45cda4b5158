"""One process that has imported the libraries, and forks a child for each job of a local run.

Imports are most of a small job, and a study has hundreds of small jobs. A run on this machine
starts one such process (`hatch`); a command that finds it hands over its words, its environment and
its terminal (`ask`), and a fork does the work as the command would have done it. What a command's
code imports from other packages is loaded when the first job needs it; that code itself is read by
each child, as it would be without any of this. Where there is no such process, or it is not Linux,
or there is a GPU (a process that has touched one can't be forked), jobs start cold.
"""

import contextlib
import importlib
import json
import logging
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from realign.artifacts import fingerprint
from realign.engine.signals import heeded
from realign.engine.threads import THREAD_VARIABLES, set_threads

VARIABLE = "REALIGN_ZYGOTE"  # where its socket is; jobs are told by environment
CHILD = "REALIGN_ZYGOTE_CHILD"  # the process that is a child of it, and does the work
# Before any library loads: no threads that a fork would lose, no hub, no search for an accelerator.
QUIET = {
    **dict.fromkeys(THREAD_VARIABLES, "1"),
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DS_ACCELERATOR": "cpu",
}

log = logging.getLogger(__name__)


def hatch() -> None:
    """Start the process for this run, which lives as long as the run does, and tell the jobs of it."""
    if VARIABLE in os.environ or sys.platform != "linux" or Path("/dev/nvidiactl").exists():
        return
    place = Path(tempfile.mkdtemp(prefix="realign-")) / "door"
    with open_door(place) as door:
        subprocess.Popen(
            [sys.executable, "-m", __name__, "--serve", str(door.fileno()), str(place), str(os.getpid())],
            pass_fds=[door.fileno()],
            env={**os.environ, **QUIET},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    os.environ[VARIABLE] = str(place)


def open_door(place: Path) -> socket.socket:
    """A listening socket, so that whoever asks early waits instead of finding nobody."""
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(place))
    door.listen(256)
    return door


def is_warm() -> bool:
    """Whether this run has such a process."""
    return VARIABLE in os.environ


def ask(module: str, words: Sequence[str], command: str = "") -> int | None:
    """Have a child do what `python -m module words…` would; its exit code, or None if nobody can be asked.

    `command` names the declaration of the command that is to run (`module:name`), whose libraries it needs.
    """
    place = os.environ.get(VARIABLE)
    if not place or os.environ.get(CHILD) == str(os.getpid()):
        return None
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(place)
    except OSError:
        return None
    request = {
        "module": module,
        "words": list(words),
        "command": command,
        "cwd": str(Path.cwd()),
        "environment": dict(os.environ),
    }
    body = json.dumps(request).encode() + b"\n"
    sent = socket.send_fds(server, [body], [0, 1, 2])
    server.sendall(body[sent:])
    for number in heeded():
        signal.signal(number, lambda received, _: server.send(bytes([received])))
    answer = server.recv(1)
    if not answer:
        print("realign: the process that ran this job is gone", file=sys.stderr)
    return answer[0] if answer else 1


class Zygote:
    """The server: one loop, one child for each connection, nothing computed here."""

    def __init__(self, door: socket.socket, parent: int):
        self.door = door
        self.parent = parent
        self.children: dict[int, socket.socket] = {}
        self.waiting = selectors.DefaultSelector()
        self.waiting.register(door, selectors.EVENT_READ, self._accept)

    def serve(self) -> None:
        """Answer until the run that started this process is gone and the last child has ended."""
        while self.children or os.getppid() == self.parent:
            for key, _ in self.waiting.select(timeout=0.5):
                key.data(key.fileobj)

    def _accept(self, door: socket.socket) -> None:
        client, _ = door.accept()
        client.settimeout(10)
        try:
            request, streams = _receive(client)
        except (OSError, ValueError):
            client.close()  # whoever asked was gone before it had said what it wants
            return
        try:
            preload(_code_of(request))
        except Exception as error:  # noqa: BLE001 (the child meets the same error, and tells it)
            log.debug("nothing loaded ahead: %s", error)
        child = os.fork()
        if child == 0:
            self._close()
            _live(request, streams)
        for stream in streams:
            os.close(stream)
        self.children[child] = client
        self.waiting.register(client, selectors.EVENT_READ, lambda c: _pass_on(self.waiting, c, child))
        self.waiting.register(os.pidfd_open(child), selectors.EVENT_READ, lambda fd: self._bury(fd, child))

    def _bury(self, watch: int, child: int) -> None:
        self.waiting.unregister(watch)
        os.close(watch)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        client = self.children.pop(child)
        with contextlib.suppress(KeyError):
            self.waiting.unregister(client)
        with contextlib.suppress(OSError), client:  # nobody waits any more where the command was killed
            client.send(bytes([code if code >= 0 else 128 - code]))

    def _close(self) -> None:
        self.waiting.close()
        self.door.close()
        for client in self.children.values():
            client.close()


def _pass_on(waiting: selectors.BaseSelector, client: socket.socket, child: int) -> None:
    """Hand a command's signals to its child; a command that is gone leaves it to save and go."""
    try:
        numbers = client.recv(16)
    except OSError:
        numbers = b""
    if not numbers:
        waiting.unregister(client)
    for number in numbers or bytes([signal.SIGTERM]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)


def _receive(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    body, streams, _, _ = socket.recv_fds(client, 1 << 16, 3)
    while not body.endswith(b"\n"):
        more = client.recv(1 << 16)
        if not more:
            raise ValueError("half a request")
        body += more
    return json.loads(body), streams


def _live(request: Mapping[str, Any], streams: Sequence[int]) -> None:
    """In the child: become the command that asked, and end as it would end."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for place, stream in enumerate(streams):
            os.dup2(stream, place)
            os.close(stream)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"], **{CHILD: str(os.getpid())})
        set_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
        fingerprint.forget()  # the code may have changed since another job's was read
        code = _run(request["module"], request["words"])
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001 (told as an interpreter would tell it)
        sys.excepthook(*sys.exc_info())
    finally:
        for written in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                written.flush()
        logging.shutdown()
        os._exit(code)


def _run(module: str, words: Sequence[str]) -> int:
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _code_of(request: Mapping[str, Any]) -> str:
    """The module whose work is asked for: the one that a declared command names, else the one to run."""
    if not request["command"]:
        return str(request["module"])
    place, name = request["command"].split(":")
    return str(getattr(importlib.import_module(place), name).run.split(":")[0])


def preload(module: str) -> None:
    """Import what the code that `module` can reach names from other packages."""
    for package, names in fingerprint.foreign_imports(module):
        try:
            found = importlib.import_module(package)
            for wanted in names:
                getattr(found, wanted, None)  # some packages import a name when it is asked for
        except Exception as error:  # noqa: BLE001 (the job that needs it meets the same error, and tells)
            log.debug("%s can't be loaded ahead: %s", package, error)


def main(words: Sequence[str]) -> int:
    """Serve (`--serve DOOR PLACE PARENT`), or run `MODULE WORDS…`, by a child if there is a server."""
    if words[0] != "--serve":
        code = ask(words[0], words[1:])
        return _run(words[0], words[1:]) if code is None else code
    place = Path(words[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the run; its jobs are told by it
    try:
        Zygote(socket.socket(fileno=int(words[1])), parent=int(words[3])).serve()
    finally:
        place.unlink(missing_ok=True)
        place.parent.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
