"""A job's log tells the whole of it: every attempt, and what its workers said."""

from realign.engine.logs import LogFile


def attempt(log, line, done):
    """One attempt, before which Snakemake removes the log."""
    log.unlink(missing_ok=True)
    file = LogFile(log)
    file.go_on()
    with log.open("a") as stream:
        stream.write(line + "\n")
    if done:
        file.end()


def test_attempts_that_did_not_finish_stay_in_the_log(tmp_path):
    log = tmp_path / "logs" / "train.log"
    attempt(log, "stopped by a time limit", done=False)
    attempt(log, "killed", done=False)
    attempt(log, "done", done=True)
    assert log.read_text().splitlines() == ["stopped by a time limit", "killed", "done"]
    attempt(log, "another run", done=True)
    assert log.read_text().splitlines() == ["another run"]
    assert [p.name for p in log.parent.iterdir()] == [log.name]


def test_without_a_log_there_is_nothing_to_tell():
    file = LogFile(None)
    file.go_on()
    file.end()
