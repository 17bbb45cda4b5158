"""What a run prints for people: a line for each job, warnings and errors in full, on a terminal and in a file."""

import io
import logging
import logging.handlers
import queue
import re
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import pytest
from snakemake.logging import logger
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry
from snakemake_interface_logger_plugins.tests import MockOutputSettings, TestLogHandlerBase

from realign.artifacts.errors import Interrupted
from realign.cli import _explain
from realign.engine.logs import LOGS_ONLY, LogFile
from realign.runs import output
from realign.runs.cost import Cost
from realign.runs.dag import PlannedJob
from realign.study.load import parse_study
from terminal import Terminal

SNAKEFILE = """
    rule all:
        input: "a.txt", "b.txt", "c.txt"
    rule good:
        output: "a.txt"
        log: "a.log"
        shell: "echo '10:00:00 W realign.hrsa.linear: few directions' > {log}; touch {output}"
    rule bad:
        output: "b.txt"
        log: "logs/bad.log"
        retries: 1
        shell: "echo 'reading raw.jsonl' > {log}; echo 'mine: raw.jsonl, line 3: no query' >> {log}; exit 1"
    rule slow:
        input: "a.txt"
        output: "c.txt"
        params: job="x" * 5000
        log: "c.log"
        shell: "sleep 2; touch {output}"
"""
STUDY = parse_study({"study": {"name": "mine"}, "backbones": {}})


@pytest.fixture
def toy(tmp_path):
    (tmp_path / "Snakefile").write_text(textwrap.dedent(SNAKEFILE))
    return [sys.executable, "-m", "snakemake", "-c3", "--keep-going", "--logger", "realign"]


def without_times(said):
    """Lines without clock and durations, the path of Snakemake's log cut."""
    said = re.sub(r"\d\d:\d\d:\d\d|under 1 s|\d[\d.]* s\b", "T", said)
    return [" ".join(line.split()) for line in re.sub(r"/\S+\.snakemake\.log", "LOG", said).splitlines()]


def test_a_run_into_a_file_has_a_line_for_each_job_and_every_failure_with_its_log(toy, tmp_path):
    done = subprocess.run(toy, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert not done.stdout
    failure = [
        "T FAILED bad (T)",
        "why: mine: raw.jsonl, line 3: no query",
        "log: logs/bad.log",
        "reading raw.jsonl",
        "mine: raw.jsonl, line 3: no query",
    ]
    said = without_times(done.stderr)
    assert [line for line in said if line.split()[0] == "T" and "FAILED" not in line] == [
        "T 1/3 T good",
        "T 2/3 T slow",
    ]
    assert said[said.index("T 1/3 T good") + 1] == "warning: few directions"
    again = said.index("bad is tried again, attempt 2")
    for first in (said.index(failure[0]), said.index(failure[0], again)):
        assert said[first : first + 5] == failure
    assert said.index(failure[0]) < again
    assert said[-2:] == ["2 of 3 jobs done in T; 1 failed: bad", "Snakemake's own log: LOG"]
    assert len(said) == 2 + 1 + 2 * 5 + 1 + 2
    (log,) = (tmp_path / ".snakemake/log").iterdir()
    assert "rule slow:" in log.read_text()  # Snakemake's own text is whole there


def test_a_terminal_shows_what_runs_on_its_last_line(toy, tmp_path):
    screen = Terminal(toy, tmp_path)
    assert screen.wait() == 1
    drawn = screen.said.split("\r\x1b[K")
    assert any(re.search(r"1/3 done · running: slow \d", part) for part in drawn)
    kept = "".join(part.rpartition("\x1b[2m")[0] if "done · running" in part else part for part in drawn)
    lines = without_times(re.sub(r"\x1b\[\d*m", "", kept).replace("\r", ""))
    assert {"T 1/3 T good", "T 2/3 T slow", "T FAILED bad (T)"} <= set(lines)
    assert not [line for line in lines if "running" in line]
    assert "\x1b[31m" in screen.said  # a failure is red
    assert lines[-2:] == ["2 of 3 jobs done in T; 1 failed: bad", "Snakemake's own log: LOG"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--quiet", "all"], []),
        (["--dry-run", "--quiet", "progress"], ["good · Missing output files", "bad · Missing output files"]),
        (["--unlock"], ["Unlocked working directory."]),
        (["--", "nowhere.txt"], ["MissingRuleException:", "No rule to produce nowhere.txt"]),
    ],
)
def test_snakemakes_other_answers_stay(toy, tmp_path, words, expected):
    done = subprocess.run([*toy, *words], cwd=tmp_path, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert all(line in said for line in expected), said
    assert expected or not said


class TestPlugin(TestLogHandlerBase):
    """Snakemake's own checks of a logger plugin."""

    __test__ = True

    def get_log_handler_cls(self):
        return LoggerPluginRegistry().get_plugin("realign").log_handler

    def get_log_handler_settings(self):
        return None


@pytest.fixture
def told(tmp_path, monkeypatch):
    """A run's output that is told events, and what it has printed since the last look."""
    monkeypatch.chdir(tmp_path)
    handler = output.RunOutput(MockOutputSettings(), None)
    handler._stream = screen = io.StringIO()

    def look():
        said = screen.getvalue()
        screen.seek(0)
        screen.truncate()
        return said

    def tell(event=None, text="", level=logging.INFO, **facts):
        record = logging.LogRecord("snakemake", level, "", 1, text, (), None)
        record.__dict__.update(facts, event=event)
        output.mark_logs(record)
        handler.handle(record)
        return look()

    def start(number, rule, log="", **wildcards):
        about = {"jobid": number, "rule_name": rule, "wildcards": wildcards, "log": [log] if log else []}
        tell(LogEvent.JOB_INFO, shellcmd="realign", output=["x"], reason="", **about)
        return about | {"rule_msg": None, "shellcmd": "realign", "output": ["x"]}

    tell.start, tell.handler, tell.look = start, handler, look
    yield tell
    handler.close()


def planned(*rules, reasons=("output files have to be generated",)):
    return [PlannedJob(rule, reasons=reasons) for rule in rules]


def test_a_run_begins_with_its_plan_and_gives_a_reason_where_they_differ(told, monkeypatch):
    jobs = planned("mine") + planned("train", reasons=("updated input files",))
    monkeypatch.setattr(
        output, "costs_of", lambda jobs, study: {job.name: Cost(1, 0, "measured") for job in jobs}
    )
    told.handler.expect(jobs, STUDY)
    plan = [" ".join(line.split()) for line in told.look().splitlines()]
    assert plan[:4] == [
        "rule jobs cost why",
        "mine 1 1 h not made yet",
        "train 1 1 h an input changed",
        "all 2 2 h of jobs, one after the other",
    ]
    told.start(1, "train")
    assert " 1/2 " in (line := told(LogEvent.JOB_FINISHED, job_id=1))
    assert "train · an input changed" in line
    told.start(2, "mine")
    assert "running: mine" in told.handler._state()
    told.handler.expect(jobs, STUDY, submits=True)
    assert "submitted: mine" in told.handler._state()


def test_the_time_left_follows_what_jobs_took_and_is_not_told_while_it_is_a_guess():
    jobs = planned("mine") + [PlannedJob("train", {"seed": str(seed)}) for seed in range(4)]
    pace = output.Pace(jobs, {job.name: Cost(1, 0, "guess") for job in jobs})
    pace.began = time.time() - 100
    assert pace.left([]) is None
    for done in jobs[:2]:
        pace.note(output.Job(done.name, done.rule, done.wildcards, [], 0.0), 50)
    assert pace.left([]) == pytest.approx(150, abs=1)
    running = output.Job(jobs[2].name, "train", {}, [], time.time() - 30)
    assert pace.left([running]) == pytest.approx(120 / 1.3, abs=2)  # one and a third at a time


def test_a_target_that_makes_nothing_has_no_line(told):
    told(
        LogEvent.JOB_INFO, jobid=1, rule_name="all", wildcards={}, log=[], shellcmd=None, output=[], reason=""
    )
    assert told(LogEvent.JOB_FINISHED, job_id=1) == ""


def test_a_warning_is_shown_once_however_many_jobs_give_it(told, tmp_path):
    (tmp_path / "a.log").write_text("10:00:00 I realign.x: fine\n10:00:01 W realign.x: not so fine\n")
    for number in (1, 2):
        told.start(number, "train", "a.log")
    assert "warning: not so fine\n" in told(LogEvent.JOB_FINISHED, job_id=1)
    assert "warning" not in told(LogEvent.JOB_FINISHED, job_id=2)


def test_of_a_group_only_those_that_died_are_told_as_failed(told, tmp_path):
    members = [told.start(number, "pairs", f"{number}.log", dataset=f"d{number}") for number in (1, 2)]
    LogFile(tmp_path / "2.log").go_on()
    (tmp_path / "2.log").write_text("pairs: raw.jsonl: no such file\n")
    said = told(LogEvent.GROUP_ERROR, level=logging.ERROR, aux_logs=["slurm/7.log"], job_error_info=members)
    assert "slurm/7.log" in said
    assert told(LogEvent.JOB_ERROR, level=logging.ERROR, **members[0]) == ""
    said = told(LogEvent.JOB_ERROR, level=logging.ERROR, **members[1])
    assert "FAILED pairs(dataset=d2)" in said
    assert "why: pairs: raw.jsonl: no such file" in said


def test_a_job_that_was_asked_to_stop_has_not_failed(told, tmp_path):
    told.handler._total = 2
    about = told.start(1, "train", "1.log")
    assert _explain("train", Interrupted("saved at step 12 of 400"), tmp_path / "1.log") == 75
    assert "Stopped train" in told(LogEvent.JOB_ERROR, level=logging.ERROR, **about)
    ended = told(text="Complete log(s): /x/y.snakemake.log")
    assert "failed" not in ended
    assert "run the same command again to go on" in ended


def test_a_job_that_wrote_before_its_start_was_printed_is_told_with_its_words(told, tmp_path):
    """Snakemake hands its records to a queue, from which another thread prints them."""
    waiting: queue.Queue = queue.Queue()
    through = logging.handlers.QueueHandler(waiting)
    logger.addHandler(through)
    about = {
        "jobid": 1,
        "rule_name": "train",
        "wildcards": {},
        "log": ["1.log"],
        "shellcmd": "x",
        "output": [],
    }
    try:
        logger.warning("", extra=about | {"event": LogEvent.JOB_INFO, "reason": ""})
        LogFile(tmp_path / "1.log").go_on()
        (tmp_path / "1.log").write_text("train: shard 3 is damaged\n")
    finally:
        logger.removeHandler(through)
    told.handler.handle(waiting.get_nowait())
    said = told(LogEvent.JOB_ERROR, level=logging.ERROR, **about, rule_msg=None)
    assert "why: train: shard 3 is damaged" in said


LACKS_OUTPUT = (
    "MissingOutputException:\nJob 1  completed successfully, but some output files are missing. b.txt"
)


def test_a_restart_without_an_event_of_its_failure_is_shown(told):
    told.start(1, "train", seed="0")  # an output of it is missing, of which there is no event
    assert "FAILED train(seed=0)" in told(text=LACKS_OUTPUT, level=logging.ERROR)
    assert told(text="Trying to restart job 1.") == "train(seed=0) is tried again, attempt 2\n"
    told.start(1, "train", seed="0")
    told(text=LACKS_OUTPUT, level=logging.ERROR)
    assert told(text="Trying to restart job 1.") == "train(seed=0) is tried again, attempt 3\n"
    assert told(text="Trying to restart job 1f3e-22.") == "A group of jobs is tried again\n"


def test_a_job_that_lacks_an_output_has_failed(tmp_path):
    """In a real run, since Snakemake has no event for it."""
    (tmp_path / "Snakefile").write_text("rule bad:\n    output: 'a.txt', 'b.txt'\n    shell: 'touch a.txt'\n")
    words = [sys.executable, "-m", "snakemake", "-c1", "--logger", "realign", "--latency-wait", "0"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    said = without_times(done.stderr)
    assert "T FAILED bad: it ended well without its outputs" in said
    assert any("b.txt" in line for line in said)
    assert said[-2] == "0 of 1 jobs done in T; 1 failed: bad"


def test_a_burst_of_submissions_is_one_line(told, monkeypatch):
    monkeypatch.setattr(output, "SETTLED", 0.3)

    def submit(*numbers):
        said, end = "", time.monotonic() + 5
        for number in numbers:
            told.start(number, "train", seed=str(number))
            said += told(
                text=f"Job {number} has been submitted with SLURM jobid 7{number} (log: /x/{number}.log)."
            )
        assert said == ""
        while not said and time.monotonic() < end:
            time.sleep(0.05)
            said += told.look()
        return said

    assert submit(1, 2, 3).endswith(" 3 jobs submitted to SLURM\n")
    told(LogEvent.JOB_FINISHED, job_id=1)
    assert submit(4) == ""  # one takes another's place
    assert submit(5, 6).endswith(" 2 jobs submitted to SLURM\n")


def test_a_job_of_a_group_that_does_better_at_another_try_has_not_failed(told, tmp_path):
    about = told.start(1, "train")
    assert "FAILED train" in told(LogEvent.JOB_ERROR, level=logging.ERROR, **about)
    told(text="Trying to restart job c0ffee-22.")
    told.start(1, "train")
    assert "attempt 2" in told(LogEvent.JOB_FINISHED, job_id=1)
    assert "failed" not in told(text="Complete log(s): /x/y.snakemake.log")


def test_a_failed_job_of_a_cluster_shows_the_clusters_own_log_too(told, tmp_path):
    about = told.start(1, "train", log="train.log")
    (tmp_path / "train.log").write_text("train: shard 3 is damaged\n")
    (tmp_path / "7.log").write_text("slurmstepd: error: *** JOB 7 CANCELLED ***\n")
    said = told(LogEvent.JOB_ERROR, level=logging.ERROR, **about | {"log": ["train.log", "7.log"]})
    assert "why: train: shard 3 is damaged; slurmstepd: error: *** JOB 7 CANCELLED ***\n" in said
    assert "  log: 7.log\n    slurmstepd: error: *** JOB 7 CANCELLED ***\n" in said


def test_a_site_that_asks_for_no_account_is_no_matter_for_a_warning(told):
    assert told(text="No SLURM account given, trying to guess.", level=logging.WARNING) == ""


def test_a_run_that_is_quiet_about_its_jobs_does_not_count_them():
    settings = MockOutputSettings()
    settings.quiet = {Quietness.RULES}
    handler = output.RunOutput(settings, None)
    handler._stream = screen = io.StringIO()
    handler.handle(logging.LogRecord("snakemake", logging.INFO, "", 1, "Complete log(s): /x", (), None))
    handler.close()
    assert screen.getvalue() == ""


def test_a_record_without_a_message_is_not_printed(told):
    assert told(LogEvent.DEBUG_DAG, text=None, level=logging.DEBUG, status="candidate", job="train") == ""


def test_a_long_silence_in_a_file_is_broken_by_how_the_run_stands(told, monkeypatch):
    monkeypatch.setattr(output, "SIGN_OF_LIFE", 0.0)
    told.start(1, "train", seed="0")
    said, end = "", time.monotonic() + 20
    while "running: train(seed=0)" not in said and time.monotonic() < end:
        time.sleep(0.05)
        said += told.look()
    assert re.search(r"\d\d:\d\d:\d\d 0/0 done · running: train\(seed=0\)", said)


def test_a_run_whose_terminal_is_gone_goes_on(told, monkeypatch):
    def write(text):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(told.handler, "_stream", SimpleNamespace(write=write, flush=lambda: None))
    monkeypatch.setattr(told.handler, "handleError", lambda record: pytest.fail("it stumbled"))
    told.start(1, "train")
    told(LogEvent.JOB_FINISHED, job_id=1)


def test_what_a_job_of_such_a_run_prints_is_in_its_log_alone(tmp_path, monkeypatch):
    """The command stops at its settings, once with and once without a run that shows its own output."""
    code = f"""
import sys
from realign.cli import main
sys.exit(main(["mine", "--job", "{{}}", "--log", "{tmp_path}/mine.log", "--raw", "none.jsonl", "--teacher", "none",
    "--pairs", "{tmp_path}/pairs.jsonl", "--report", "{tmp_path}/report.json"]))
"""
    monkeypatch.chdir(tmp_path)
    words = [sys.executable, "-c", code]
    loud = subprocess.run(words, capture_output=True, text=True)
    assert loud.stderr.startswith("realign mine: ")
    message = loud.stderr.removeprefix("realign mine: ")
    for log in tmp_path.glob("*mine.log*"):
        log.unlink()
    monkeypatch.setenv(LOGS_ONLY, "1")
    still = subprocess.run(words, capture_output=True, text=True)
    assert (still.returncode, still.stdout, still.stderr) == (loud.returncode, "", "")
    assert (tmp_path / "mine.log").read_text().count(message) == 1
