"""`realign status`: what a run has done, is doing, waits for and failed at, be it alive or dead."""

import argparse
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from realign.artifacts.command import UserError
from realign.commands import DONE_BY, STAGES, order
from realign.runs.flow import DEFAULT_STUDY, backbone_in, changes_of, read_config
from realign.runs.journal import JobStatus, RunStatus, read_journal, record_of
from realign.runs.queue import left_in_queue, queue_of, say_left, states_in_queue
from realign.study.load import load_study

# What a job or the cluster says when it fails → what a user does about it. `{}` is where the study
# says what the job's rule may use.
REMEDIES = (
    (r"CUDA out of memory|OutOfMemoryError: CUDA", "a smaller token budget in the recipe's hardware"),
    (r"OUT_OF_MEMORY|oom.kill|MemoryError|Cannot allocate memory|more memory than", "{}.memory_gb"),
    (r"TIMEOUT|TIME LIMIT|time limit\b", "{}.hours, or run it again: it goes on where it was"),
    (r"NODE_FAIL|NODE FAILURE|node failure|BOOT_FAIL", "nothing: run it again, it goes on where it was"),
    (r"CANCELLED|PREEMPTED", "nothing: run it again, it goes on where it was"),
    (r"No space left on device", "room on the disk (`realign store` says what the work store holds)"),
    (r"GPUs? asked for|[Nn]o (CUDA|GPU|NVIDIA)|CUDA is not available", "{}.gpus, or the driver of that node"),
)
# The queue's reason to wait → what it means; others are shown as they are.
WAITS_FOR = {
    "None": "",
    "Priority": "others come first",
    "Resources": "no nodes are free",
    "PartitionTimeLimit": "it will never start, since its limit is above the partition's "
    "(PartitionTimeLimit): lower its hours in the study's resources",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition is inactive",
    "AssocMaxWallDurationPerJobLimit": "it will never start, since its limit is above its account's "
    "(AssocMaxWallDurationPerJobLimit)",
    "QOSMaxWallDurationPerJobLimit": "it will never start, since its limit is above its QOS's "
    "(QOSMaxWallDurationPerJobLimit)",
    "PartitionNodeLimit": "it will never start, since the partition has too few nodes (PartitionNodeLimit)",
    "ReqNodeNotAvail": "nodes are down or reserved (ReqNodeNotAvail)",
}
GO_ON = {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STAGE_OUT", "RESIZING", "SIGNALING", "STOPPED"}
CRASHED = re.compile(r"\d\d:\d\d:\d\d E realign\.")  # a line of our own log, after which a traceback may come
PROGRESS = re.compile(r"\d\d:\d\d:\d\d [ID] realign\.")  # tells how far a job has come, not why it died
TAIL_BYTES = 20_000  # of a log, in which its reason stands
LEAST_PAUSE = 5.0  # seconds between two questions to a cluster's queue, which many people ask
SHOWN = 20  # jobs of one state that are shown one by one


def main(words: Sequence[str]) -> int:
    """Say how a study's latest run stands; the exit code is 1 where jobs failed."""
    parser = argparse.ArgumentParser("realign status", description=__doc__, allow_abbrev=False)
    parser.add_argument("--configfile", type=Path, help="the study (default: config.yaml)")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the study")
    parser.add_argument("--json", action="store_true", help="every job, as JSON")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=30.0,
        metavar="SECONDS",
        help="show it again and again until the run ends; a cluster's queue is asked each time, every "
        f"{LEAST_PAUSE:g} seconds at most (default: 30)",
    )
    arguments = parser.parse_args(words)
    file = arguments.configfile or DEFAULT_STUDY
    study = load_study(file, changes_of(read_config(arguments.config)))
    results = Path("results") / study.study.name
    while True:
        run = latest_run(results)
        shown = as_json(run) if arguments.json else render(results, run, file)
        over_the_last = "\033[H\033[2J" if arguments.watch and sys.stdout.isatty() else ""
        print(over_the_last + shown, flush=True)
        if arguments.watch is None or not run.alive:
            return int(any(job.state == "failed" for job in run.jobs.values()))
        in_a_queue = any(job.number for job in run.jobs.values())
        time.sleep(max(arguments.watch, LEAST_PAUSE) if in_a_queue else arguments.watch)


def _seconds(word: str) -> float:
    if not 0 < (seconds := float(word)) <= threading.TIMEOUT_MAX:  # nan is neither
        raise argparse.ArgumentTypeError(f"{word} is no number of seconds above 0")
    return seconds


def latest_run(results: Path) -> RunStatus:
    """How the latest run of a study stands, by its journal and the cluster's queue."""
    journals = sorted((results / ".runs").glob("*.journal.jsonl"))
    if not journals:
        raise UserError(f"no run below {results} yet; realign plan says what one would do")
    run = read_journal(journals[-1])
    try:
        ask_queue(run, queue_of(record_of(journals[-1])))
    except UserError as error:  # how the run stands is known all the same
        print(f"{error}; jobs that wait there are shown as running", file=sys.stderr)
    return run


def ask_queue(run: RunStatus, name: str | None) -> None:
    """Tell jobs that wait for a cluster from those that run: to Snakemake both have started."""
    started = [job for job in run.jobs.values() if job.state == "running" and job.rule not in run.local]
    if not (name and started):
        return
    for job in started:
        if run.alive and not job.number:
            job.state, job.waits_for = "queued", "Snakemake has not submitted it yet"
    submitted = [job for job in started if job.number]
    if not submitted or (states := states_in_queue(name)) is None:
        return
    for job in submitted:
        state, why = states.get(job.number, ("COMPLETED", ""))  # the queue forgets ended jobs after a while
        if state == "PENDING":
            job.state, job.waits_for = "queued", WAITS_FOR.get(why, why)
        elif state not in GO_ON:
            # Snakemake hears of it when it asks the next time; without one, its log has no end.
            job.state = "ended" if run.alive else "lost"


def render(results: Path, run: RunStatus, study: Path = DEFAULT_STUDY) -> str:
    """A run as a person reads it: how it stands, a table by rule, what runs, is queued, failed and why."""
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.began))
    who = f" ({run.who})" if run.who else ""
    lines = [f"{results}: the run that began {began}{who} {_standing(run, study)}", "", *_table(run)]
    for state, title in (
        ("running", "Running" if run.alive else "Was running"),
        ("queued", "Waiting for the cluster"),
        ("ended", "Ended, and not looked at by Snakemake yet"),
        ("lost", "Ended before the work was done"),
        ("failed", "Failed"),
    ):
        jobs = sorted((job for job in run.jobs.values() if job.state == state), key=lambda job: job.since)
        if jobs:
            shown = jobs if state == "failed" else jobs[:SHOWN]
            lines += ["", f"{title}:", *(line for job in shown for line in _job(job, run))]
            lines += [f"  and {more} more"] if (more := len(jobs) - len(shown)) else []
    if not run.alive and (left := _left(results / ".runs")):
        lines += ["", *left]
    return "\n".join(lines)


def _left(records: Path) -> list[str]:
    try:
        jobs = left_in_queue(records)
    except UserError as error:  # how the run stands is known all the same
        return [str(error)]
    return say_left(jobs) if jobs else []


def _standing(run: RunStatus, study: Path) -> str:
    if run.success:
        return f"ended well after {_span(run.last - run.began)}"
    if run.success is False and not any(job.state == "failed" for job in run.jobs.values()):
        return f"was interrupted after {_span(run.last - run.began)}; run it again, and it goes on"
    if run.success is False:
        return f"ended with failures after {_span(run.last - run.began)}"
    if run.alive:
        return f"goes on, since {_span(time.time() - run.began)}"
    if run.is_complete:
        return "was killed, and the jobs that it left have ended well: nothing is left to do"
    unlock = f"snakemake --unlock --configfile {study}"
    if run.is_done:
        what = "is dead, and the jobs that it left have ended well: run it again for what follows them"
    else:
        ago = _span(time.time() - run.last)
        what = (
            f"is dead: its Snakemake was killed or interrupted, {ago} ago at the latest; "
            "run it again, and it goes on where it was"
        )
    return f"{what} (if it finds the folder locked: {unlock})"


def _table(run: RunStatus) -> Iterator[str]:
    seen = Counter((job.rule, job.state) for job in run.jobs.values())
    yield f"{'rule':<20} {'done':>6} {'running':>8} {'waiting':>8} {'failed':>7}"
    sums: Counter[str] = Counter()
    for rule in sorted(run.planned, key=order):
        counts = Counter({state: seen[rule, state] for state in ("done", "running", "failed")})
        counts["running"] += seen[rule, "ended"]
        counts["waiting"] = run.planned[rule] - sum(counts.values())
        sums.update(counts)
        yield _row(rule, counts)
    yield _row("all", sums)


def _row(name: str, counts: Counter[str]) -> str:
    return (
        f"{name:<20} {counts['done']:>6} {counts['running']:>8} {counts['waiting']:>8} {counts['failed']:>7}"
    )


def _job(job: JobStatus, run: RunStatus) -> Iterator[str]:
    again = f", attempt {job.attempts}" if job.attempts > 1 else ""
    if job.state in ("running", "queued", "ended", "lost"):
        span = _span((time.time() if run.alive else run.last) - job.since)
        # A queue is not asked when it started a job; so the time is that since it was submitted.
        since = f"submitted as {job.number}, {span} ago" if job.number else f"for {span}"
        if job.waits_for:
            since += f", waits: {job.waits_for}"
        yield f"  {job.name}  {since}{again}; log: {', '.join(job.logs)}"
        return
    why = reason(job)
    yield f"  {job.name}{again}"
    yield f"    why: {why}"
    yield f"    log: {', '.join(job.logs)}"
    if remedy := remedy_of(job, why):
        yield f"    change: {remedy}"


def reason(job: JobStatus) -> str:
    """Why a job failed: the last word of its own log, and what the cluster says of it."""
    said = [*map(_last_word, job.said(TAIL_BYTES)), _message(job)]
    words = dict.fromkeys(word for word in said if word)
    return "; ".join(words) or "it died without a word: a kill, perhaps for lack of memory"


def _message(job: JobStatus) -> str:
    """What Snakemake or the cluster says of a failed job, without its advice to look into logs."""
    return " ".join(job.message.split("For further error details")[0].split())


def _last_word(said: str) -> str:
    """The error that an attempt ends with; our commands' own begin with their name and may span lines."""
    lines = [line for line in map(str.strip, said.splitlines()) if line and not PROGRESS.match(line)]
    own = max((i for i, line in enumerate(lines) if line.split(": ")[0] in STAGES), default=None)
    crashed = own is None or any(map(CRASHED.match, lines[own:]))
    return " ".join(lines[-1:] if crashed else lines[own:])


def remedy_of(job: JobStatus, why: str) -> str:
    """The setting to change, or what else to do, where what was said is known."""
    backbone = backbone_in(job.wildcards)
    rule = DONE_BY.get(job.rule, job.rule)
    where = f"resources.backbones.{backbone}.{rule}" if backbone else f"resources.rules.{rule}"
    return next((text.format(where) for pattern, text in REMEDIES if re.search(pattern, why)), "")


def _span(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min"


def as_json(run: RunStatus) -> str:
    """The run for programs."""
    jobs = []
    for job in run.jobs.values():
        entry = {"name": job.name, "rule": job.rule, "wildcards": job.wildcards, "state": job.state}
        if job.state == "failed":
            entry |= {"reason": (why := reason(job)), "change": remedy_of(job, why)}
        jobs.append({**entry, "number": job.number, "attempts": job.attempts, "logs": job.logs})
    facts = {"began": run.began, "alive": run.alive, "success": run.success, "planned": run.planned}
    return json.dumps({**facts, "jobs": jobs}, indent=1)
