"""The command line: one command per stage, each imported only when it is called.

A stage command is a `Command` that its room declares; the tools below the line (plan, show, …)
are plain functions `main(words) -> int`. Only the table of commands is needed for the help.
"""

import argparse
import contextlib
import errno
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from realign.commands import STAGES, TOOLS, load_command, resolve
from realign.engine.signals import stopping_on_interrupt

if TYPE_CHECKING:
    from realign.artifacts.store import Work

# A path that is not there, not the user's, or a file where a folder is wanted: no error of the code.
OF_PATHS = (FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError, IsADirectoryError)
NO_PATHS = (errno.ELOOP, errno.ENAMETOOLONG)  # nor are these, which have no class of their own
# Crashes that another node or another hour may not see; any other comes again from the same code and data.
MAY_PASS = re.compile(r"CUDA|NCCL|gloo|[Tt]imed? ?out|[Cc]onnection|SIG[A-Z]+|no word|[Mm]emory")
CRASHES, LATE_FILES, ALWAYS = 2, 3, 10**6  # failures alike in a row after which a job is not tried again
STOPPED = 130  # the exit code of a command that Ctrl-C ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 only when it did what was asked."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with stopping_on_interrupt():
            if not words or words[0] in ("-h", "--help", "--version"):
                return _introduce(version=words[:1] == ["--version"])
            name, rest = words[0], words[1:]
            if name in TOOLS:
                return _run_tool(name, rest)
            if name in STAGES:
                code = _ask(words)
                return _run_stage(name, rest) if code is None else code
            from realign.study.errors import nearest

            hint = nearest(name, [*STAGES, *TOOLS]) or "; see realign --help"
            print(f"realign: no command '{name}'{hint}", file=sys.stderr)
            return 2
    except KeyboardInterrupt:
        return STOPPED
    except OSError as error:
        from realign.artifacts.disk import explain_full_disk

        of_a_path = _sentence(error) if error.errno in NO_PATHS else ""
        if not (sentence := explain_full_disk(error, Path.cwd()) or of_a_path):
            raise
        print(f"realign: {sentence}", file=sys.stderr)
        return 1


def _introduce(version: bool) -> int:
    text = _version() if version else _overview()
    with _reader_may_leave():
        print(text)
    return 0


def _version() -> str:
    from importlib.metadata import version  # takes as long to import as all of the help

    return version("realign")


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Let the reader of what is printed here, `head` perhaps, go when it has had enough."""
    try:
        yield
    except BrokenPipeError:
        pass  # told once more below
    finally:
        try:
            print(end="", flush=True)  # what is still held would break at the very end
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _overview() -> str:
    """The help: the commands for people, then those that rules call; plates have a list of their own."""
    people = TOOLS | {name: STAGES[name] for name in ("evaluate",)}
    stages = {
        name: about
        for name, about in STAGES.items()
        if name not in people and not name.startswith(("figure_", "table_"))
    }
    width = max(len(name) for name in [*people, *stages]) + 2
    lines = ["usage: realign COMMAND [options]    (realign COMMAND --help for each)"]
    for title, table in (
        ("Commands", people),
        ("Stages, which a run calls for you, in the order the data flows", stages),
    ):
        lines += ["", f"{title}:", *(f"  {name:<{width}}{text}" for name, (_, text) in table.items())]
    return "\n".join([*lines, "", "Each figure and table is a stage too: realign figures --list"])


def _run_tool(name: str, rest: list[str], main: str = "") -> int:
    from realign.artifacts.command import UserError
    from realign.study.errors import StudyError

    code = 0
    try:
        with _reader_may_leave():
            code = int(resolve(main or TOOLS[name][0])(rest) or 0)
    except (UserError, StudyError, *OF_PATHS) as error:
        print(f"realign {name}: {_sentence(error)}", file=sys.stderr)
        return 1
    return code


def _ask(words: list[str]) -> int | None:
    """Hand a workflow's job to the process that keeps libraries loaded, if this run has one."""
    if "REALIGN_ZYGOTE" not in os.environ or "--job" not in words or words[0].startswith("fetch_"):
        return None  # what fetches needs the hub, which is switched off there
    from realign.engine.zygote import ask

    return ask("realign.cli", words, STAGES[words[0]][0])


def _run_stage(name: str, rest: list[str]) -> int:
    from realign.artifacts.arguments import build_parser

    command = load_command(name)
    if command.front and "--job" not in rest:
        return _run_tool(name, rest, command.front)
    arguments = None
    with _reader_may_leave():
        arguments = build_parser(command).parse_args(rest)
    if arguments is None:  # its help was asked for
        return 0
    if arguments.threads:
        from realign.engine.threads import set_threads

        set_threads(arguments.threads)

    if arguments.job and not name.startswith("fetch_"):  # compute nodes often have no network
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

    from realign.artifacts.arguments import read_request
    from realign.artifacts.command import execute
    from realign.artifacts.store import WorkStore
    from realign.engine.logs import LOGS_ONLY, LogFile, print_into, start_logging
    from realign.runs.attempts import forget_error, forget_failures
    from realign.runs.frozen import check_frozen, read_frozen
    from realign.runs.supervisor import end_child, supervise

    log_file = LogFile(arguments.log)
    log_file.go_on()
    forget_error(arguments.log)
    if arguments.job and arguments.log and LOGS_ONLY in os.environ:
        print_into(arguments.log)
    start_logging(arguments.log)
    # From here on two processes: the job's parent has its child's exit code, and the child has none yet.
    supervised = bool(arguments.job and read_frozen())
    code = supervise(name, arguments.log) if supervised else None
    if code is None:
        try:
            request = read_request(command, arguments)
            check_frozen(command, request.code)
            execute(
                command,
                request.settings,
                request.inputs,
                request.outputs,
                WorkStore(request.store),
                arguments.threads or 1,
                arguments.force,
                before_work=lambda work: _may_work(name, work, arguments),
            )
            code = 0
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (explained, with its traceback if need be)
            code = _explain(name, error, arguments.log)
        if supervised:
            end_child(code)
    if code == 0:
        log_file.end()
        forget_failures(arguments.log)
    return code


def _explain(name: str, error: BaseException, log: Path | None) -> int:
    """Say why a stage did not come to its end; the exit code."""
    from realign.artifacts.command import RUN_VARIABLE, Interrupted, NodeError, UserError
    from realign.artifacts.errors import KEPT
    from realign.artifacts.manifest import ManifestError
    from realign.runs.attempts import last_failure

    if isinstance(error, (UserError, ManifestError, *OF_PATHS)):
        before = last_failure(log, os.environ.get(RUN_VARIABLE))
        sentence = _sentence(error)
        _say(name, sentence if before in ("", sentence) else f"{sentence} (an attempt before: {before})", log)
        # A hub or a node may be out of order for an hour, and a file come late on a shared file system.
        may_pass = isinstance(error, NodeError) or name.startswith("fetch_")
        of_files = LATE_FILES if not isinstance(error, UserError) else 1
        _note_failure(log, sentence, ALWAYS if may_pass else of_files)
        return 1
    if isinstance(error, Interrupted):
        _say(name, f"{error}; {KEPT}. Run it again to go on", log)
        return Interrupted.exit_code
    if isinstance(error, KeyboardInterrupt):
        _say(name, f"stopped; {KEPT}. Run it again to go on", log)
        return STOPPED
    logging.getLogger(__name__).error("%s stopped on an error of its own", name, exc_info=error)
    crash = f"{type(error).__name__}: {error}"
    may_pass = isinstance(error, OSError | MemoryError) or MAY_PASS.search(crash) is not None
    _note_failure(log, crash, ALWAYS if may_pass else CRASHES)
    return 1


def _note_failure(log: Path | None, failure: str, times: int) -> None:
    """Record a failure, and that a job is not tried again once it failed alike so often in a row."""
    from realign.artifacts.command import RUN_VARIABLE
    from realign.runs.attempts import count_alike, record_error

    with contextlib.suppress(OSError):  # on a full disk; it is then tried again, which is no harm
        if count_alike(log, os.environ.get(RUN_VARIABLE), failure) >= times:
            record_error(log, failure)


def _sentence(error: BaseException) -> str:
    """An error in one sentence, that of a path with the path first."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {(error.strerror or 'it cannot be used').lower()}"
    return str(error)


def _may_work(name: str, work: "Work", arguments: argparse.Namespace) -> None:
    """Speak up where work is not to be done here, or can't be; keep what the cluster promised the job."""
    from realign.artifacts.command import UserError

    if rule := arguments.done_by:
        raise UserError(
            work.failure
            or f"not done, and this job only publishes what {rule} does: where that tells of a failure the "
            f"next run tries again; where not, its work was pruned since (snakemake --forcerun {rule})"
        )
    from realign.engine.signals import WARNING

    os.environ[WARNING] = str(arguments.warning_seconds if "SLURM_JOB_ID" in os.environ else 0)
    if arguments.gpus:
        from realign.engine.gpus import take_gpus

        take_gpus(arguments.gpus)  # before torch looks for them
        from realign.engine.devices import need_gpus

        need_gpus(name, arguments.gpus)


def _say(name: str, what: str, log: Path | None) -> None:
    """Say it on the terminal and in the log, of which either may be gone: closed, or on a full disk."""
    from realign.engine.logs import prints_into

    if not prints_into(log):
        with contextlib.suppress(OSError):
            print(f"realign {name}: {what}", file=sys.stderr)
    if log is not None:
        with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as stream:
            stream.write(f"{name}: {what}\n")


if __name__ == "__main__":
    sys.exit(main())
