"""`make gpu-check`: parts fail each by itself, a check goes on where it was, and all of it runs at toy size."""

import json

import pytest

SHORT = ["versions", "steps-0.5B-packed", "padding", "search", "grpo", "encode", "trace", "extraction"]


@pytest.fixture
def check(benchmark, monkeypatch, tmp_path):
    """Runs the check in `tmp_path` with parts of its own, by name; gives the exit code and the outcomes."""
    gpu_check = benchmark("gpu_check")
    monkeypatch.setattr(gpu_check, "commit", lambda: "a commit")

    def run(*words, **parts):
        made = {name: gpu_check.Part(name, work, seconds=60) for name, work in parts.items()}
        monkeypatch.setattr(gpu_check, "PARTS", made)
        code = gpu_check.main(["--folder", str(tmp_path), *words])
        outcomes = json.loads((tmp_path / "results.json").read_text())
        return code, {o["part"]: o for o in outcomes}

    return run


def test_a_part_that_fails_is_named_and_leaves_the_others_alone(check, benchmark, tmp_path):
    measured = benchmark("measured").measured

    def wrong(size, place):
        measured("a case", "before it failed", 2.0)
        raise SystemExit("losses differ")

    code, found = check(
        "--toy", wrong=wrong, right=lambda size, place: measured("a case", "speed", 3.5, "GB/s")
    )
    assert code == 1
    assert (found["wrong"]["state"], found["right"]["state"]) == ("failed", "passed")
    assert "losses differ" in found["wrong"]["error"]
    assert [row["value"] for row in found["wrong"]["rows"] + found["right"]["rows"]] == [2.0, 3.5]
    assert "| | a case | speed | 3.5 GB/s |  |" in (tmp_path / "table.md").read_text().splitlines()


def test_a_check_goes_on_where_it_was(check):
    runs = []
    parts = {"first": lambda size, place: runs.append("first"), "second": lambda size, place: 1 / 0}
    check("--toy", **parts)
    code, found = check("--toy", **parts | {"second": lambda size, place: runs.append("second")})
    assert (code, runs) == (0, ["first", "second"])
    assert {o["state"] for o in found.values()} == {"passed"}


def test_no_part_starts_without_time_for_it(check, capsys):
    code, found = check("--minutes", "0.5", long=lambda size, place: None)
    assert (code, found["long"]["state"]) == (0, "no time left")
    assert "no time left for long" in capsys.readouterr().out


def every_part(benchmark, tmp_path, *words):
    assert benchmark("gpu_check").main(["--toy", "--folder", str(tmp_path), *words]) == 0
    outcomes = json.loads((tmp_path / "results.json").read_text())
    for outcome in outcomes:
        assert outcome["state"] == "needs a GPU" or outcome["rows"], outcome["part"]
    return {row["measure"] for outcome in outcomes for row in outcome["rows"]}


@pytest.mark.slow
def test_parts_run_at_toy_size_on_a_cpu(benchmark, tmp_path):
    measures = every_part(benchmark, tmp_path, "--only", *SHORT)
    assert {"tokens a second", "seconds of a step of GRPO", "largest difference to float64"} <= measures


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("gpus", ["1", "2"])
def test_all_parts_run_at_toy_size_on_a_cpu(benchmark, tmp_path, gpus):
    assert "loss, largest relative difference" in every_part(benchmark, tmp_path, "--gpus", gpus)
