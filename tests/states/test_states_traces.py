"""Traces from a stand-in endpoint and from a local model: checked, judged, counted, and resumed."""

import csv
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError

from realign.artifacts.command import UserError, execute
from realign.artifacts.store import WorkStore
from realign.states.commands import COUNT_TRACES, TRACES
from realign.states.traces import writers
from realign.states.traces.answers import final_answer, same_answer
from realign.states.traces.count import count_traces, write_counts
from realign.study.traces import CountJob, Generator, TraceJob


class StandIn(ThreadingHTTPServer):
    """Answers like an OpenAI-compatible endpoint, as a script of problems tells it to."""

    daemon_threads = True

    def __init__(self, reply):
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply, self.asked, self.failures = reply, [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, dict(self.headers), body))
        if self.server.failures:
            status = self.server.failures.pop(0)
            self._send(status, {"error": "busy"})
            return
        self._send(200, self.server.reply(body))

    def _send(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def chat(content, reasoning=None, finish="stop"):
    message = {"role": "assistant", "content": content}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    return {"choices": [{"message": message, "finish_reason": finish}]}


def solve(body):
    """A solver that gets `7 + 8` wrong, thinks too long about 100, and is cut off at 1000."""
    problem = body["messages"][-1]["content"]
    a, b = (int(n) for n in problem.split("?")[0].split("is ")[-1].split(" + "))
    if a == 1000:
        return chat("", "endless", finish="length")
    thoughts = "step " * (4000 if a == 100 else 3)
    total = a + b + (a == 7)
    return chat(f"<think>{thoughts}</think>The sum is \\boxed{{{total}}}.")


def grade(body):
    """A judge that is right, but says nothing useful about 2 + 2."""
    content = body["messages"][-1]["content"]
    if "2 + 2" in content:
        return chat("It may be 1 or 0.")
    reference = content.split("Right answer:\n")[1].split("\n")[0].removeprefix("#### ")
    return chat("1" if f"{{{reference}}}" in content else "0")


@pytest.fixture
def solver():
    server = StandIn(solve)
    yield server
    server.shutdown()


@pytest.fixture
def judge():
    server = StandIn(grade)
    yield server
    server.shutdown()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(writers, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def problems(tmp_path):
    sums = [(1, 2), (7, 8), (100, 1), (1000, 1), (2, 2), (20, 22)]
    path = tmp_path / "problems.jsonl"
    rows = [{"id": f"p{a}", "problem": f"What is {a} + {b}?", "answer": f"#### {a + b}"} for a, b in sums]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def settings(problems, solver, judge=None, **more):
    endpoint = {"url": solver.url, "model": "solver", **more.pop("endpoint", {})}
    asked = {
        "set": "sums",
        "source": {"file": str(problems), "level": "easy", **more.pop("source", {})},
        "generator": {"endpoint": endpoint, **more},
    }
    if judge:
        asked["judge"] = {"endpoint": {"url": judge.url, "model": "judge"}}
    return TraceJob.model_validate(asked)


def make(folder, asked, problems, **inputs):
    outputs = {"traces": folder / "traces.jsonl", "counts": folder / "counts.csv"}
    execute(TRACES, asked, {"problems": problems, **inputs}, outputs, WorkStore(folder / "work"))
    rows = [json.loads(line) for line in outputs["traces"].read_text().splitlines()]
    counts = list(csv.DictReader(outputs["counts"].open()))
    return {row["id"]: row for row in rows}, counts[0]


def test_traces_are_written_checked_judged_and_counted(tmp_path, problems, solver, judge):
    rows, counts = make(tmp_path, settings(problems, solver, judge), problems)
    assert list(rows) == ["p1", "p7", "p100", "p1000", "p2", "p20"]
    assert rows["p1"]["reasoning"] == "step step step"
    assert rows["p1"]["answer"] == "The sum is \\boxed{3}."
    assert [rows[p]["skipped"] for p in rows] == [False, False, True, True, False, False]
    assert [rows[p]["matches_reference"] for p in rows] == [True, False, True, False, True, True]
    assert [rows[p]["judged_correct"] for p in rows] == [True, False, None, None, None, True]
    # p2 has no verdict of the judge, so its reference decides.
    assert {k: counts[k] for k in ("total", "skipped", "judged", "correct")} == {
        "total": "6", "skipped": "2", "judged": "4", "correct": "3",
    }  # fmt: skip
    path, _, body = solver.asked[0]
    assert path == "/v1/chat/completions"
    assert body["model"] == "solver"
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.6, 0.95, 11000)
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert judge.asked[0][2]["temperature"] == 0
    assert len(judge.asked) == 4


def test_the_prompts_are_settings(tmp_path, problems, solver):
    asked = settings(problems, solver, system="Be brief.", user="Say: {problem} {{}}")
    make(tmp_path, asked, problems)
    bodies = {b["messages"][1]["content"] for _, _, b in solver.asked}
    assert "Say: What is 1 + 2? {}" in bodies
    assert {b["messages"][0]["content"] for _, _, b in solver.asked} == {"Be brief."}
    for wrong in ("no place for it", "{problem} {other}", "{problem} {"):
        with pytest.raises(ValidationError, match="prompt"):
            Generator(user=wrong)


def test_thoughts_in_a_field_of_their_own(tmp_path, problems, solver):
    solver.reply = lambda body: chat("Answer: 3", "thought it over")
    rows, _ = make(tmp_path, settings(problems, solver), problems)
    assert rows["p1"]["reasoning"] == "thought it over"
    assert rows["p1"]["matches_reference"]
    assert rows["p1"]["judged_correct"] is None


def test_a_busy_endpoint_is_asked_again_and_a_refusal_is_told(tmp_path, problems, solver):
    solver.failures = [429, 503, 500]
    rows, _ = make(tmp_path / "busy", settings(problems, solver), problems)
    assert len(rows) == 6
    assert len(solver.asked) == 9
    solver.failures = [401] * 20
    with pytest.raises(UserError, match="401"):
        make(tmp_path / "refused", settings(problems, solver), problems)


def test_a_job_that_failed_continues(tmp_path, problems, solver):
    asked = settings(problems, solver, endpoint={"attempts": 1})
    answered = []

    def dies_after_three(body):
        answered.append(body)
        if len(answered) > 3:
            solver.failures.append(500)
        return solve(body)

    solver.reply = dies_after_three
    asked = asked.model_copy(update={"at_once": 1})
    with pytest.raises(UserError, match="500"):
        make(tmp_path, asked, problems)
    assert not (tmp_path / "traces.jsonl").exists()
    journal = next((tmp_path / "work").glob("traces-*/scratch/traces.jsonl"))
    kept = len(journal.read_text().splitlines())
    assert kept >= 3
    with journal.open("a") as stream:
        stream.write('{"id": "p2", "cut sho')
    solver.reply, solver.failures, before = solve, [], len(solver.asked)
    rows, _ = make(tmp_path, asked, problems)
    assert len(rows) == 6
    assert len(solver.asked) - before == 6 - kept


def test_what_was_written_is_not_paid_for_again_when_the_judge_fails(tmp_path, problems, solver, judge):
    asked = settings(problems, solver, judge, endpoint={"attempts": 1})
    judge.failures = [401]
    with pytest.raises(UserError, match="401"):
        make(tmp_path, asked, problems)
    rows, _ = make(tmp_path, asked, problems)
    assert len(rows) == len(solver.asked) == 6


def test_the_key_comes_from_the_environment_and_stays_there(tmp_path, problems, solver, monkeypatch):
    asked = settings(problems, solver, endpoint={"key_variable": "TRACES_KEY"})
    with pytest.raises(UserError, match="TRACES_KEY"):
        make(tmp_path, asked, problems)
    monkeypatch.setenv("TRACES_KEY", "secret-word")
    make(tmp_path, asked, problems)
    assert solver.asked[0][1]["Authorization"] == "Bearer secret-word"
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"secret-word" in p.read_bytes()]


def test_problems_are_drawn_by_seed(tmp_path, problems, solver):
    few = settings(problems, solver, source={"limit": 3})
    one, _ = make(tmp_path / "one", few, problems)
    again, _ = make(tmp_path / "again", few, problems)
    assert len(one) == 3
    assert list(one) == list(again)
    draws = {
        tuple(make(tmp_path / str(s), few.model_copy(update={"seed": s}), problems)[0]) for s in range(1, 5)
    }
    assert len(draws) > 1


def test_a_backbone_of_ones_own_writes_by_seed(tmp_path, problems, backbone):
    asked = TraceJob.model_validate(
        {
            "set": "sums",
            "source": {"file": str(problems), "limit": 2},
            "generator": {"backbone": "base", "max_tokens": 12, "temperature": 1.0},
        }
    )
    one, counts = make(tmp_path / "one", asked, problems, model=backbone)
    again, _ = make(tmp_path / "again", asked, problems, model=backbone)
    assert one == again
    assert all(row["model"] == "base" for row in one.values())
    assert counts["total"] == "2"
    other, _ = make(tmp_path / "other", asked.model_copy(update={"seed": 5}), problems, model=backbone)
    assert [r["reasoning"] for r in other.values()] != [r["reasoning"] for r in one.values()]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("So \\boxed{\\frac{1}{2}}", "0.5"),
        ("It is \\boxed{\\dfrac{3}{4}}.", "3/4"),
        ("#### 1,234", "1234"),
        ("\\boxed{x^{2}+1}", "The answer is x^{2} + 1"),
        ("first 3, then 42", "42"),
        ("\\boxed{-7}", "−7"),
        ("Answer: $50\\%$", "50"),
        ("\\boxed{x = 5}", "5"),
        ("\\boxed{1} no, \\boxed{2}", "2"),
        ("\\boxed{\\text{Monday}}", "monday"),
        ("\\boxed{(3, 4)}", "(3,4)"),
        ("The answer is 18 dollars.", "18"),
        ("Final answer: 18 eggs", "18"),
        ("The answer is 42. Let me double-check the answer to be safe.", "42"),
        ("The answer is 3 + 4 = 7 apples", "7"),
        ("\\boxed{1{,}000}", "1000"),
        ("\\boxed{\\frac12}", "1/2"),
        ("\\boxed{x^{2}}", "x^2"),
        ("\\boxed{\\text{(B)}}", "B"),
        ("\\boxed{1\\frac{1}{2}}", "3/2"),
        ("\\boxed{-12\\frac34}", "-12.75"),
        ("\\boxed{(\\frac{3}{4})}", "0.75"),
        ("\\boxed{7\\mathrm{~cm}}", "7"),
        ("\\boxed{x = 1 + 1 = 2}", "2"),
    ],
)
def test_equal_answers(left, right):
    assert same_answer(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("\\boxed{1/3}", "0.33"),
        ("\\boxed{12}", "2"),
        ("", "3"),
        ("no number", "3"),
        ("(4,3)", "(3,4)"),
        ("The answer is 18. No, the answer is 19 eggs", "18"),
        ("\\boxed{(A)}", "B"),
        ("\\boxed{2, 3}", "2"),
        ("\\boxed{12x}", "12"),
        ("the answer is 18 of 40", "18"),
        ("the answer is 2x", "2y"),
        ("\\boxed{1\\frac{1}{2}}", "11/2"),
        ("\\boxed{2(3)}", "23"),
        ("\\boxed{(3)(4)}", "34"),
        ("\\boxed{a=1, b=2}", "2"),
    ],
)
def test_different_answers(left, right):
    assert not same_answer(left, right)


def test_the_last_stated_answer_counts():
    assert final_answer("\\boxed{1} … \\boxed{\\frac{1}{2}} and \\boxed{open") == "\\frac{1}{2}"


def released(total, skipped, correct, label=lambda x: x):
    """Rows as released: labels of different kinds, and none of `skipped` where nothing was skipped."""
    rows = [{"correctness_label": label(i < correct), "skipped": False} for i in range(total - skipped)]
    return rows + [{"correctness_label": None, "skipped": True} for _ in range(skipped)]


def test_judged_and_correct_of_the_released_sets(tmp_path):
    """The four sets behind Table 11: its Valid is the judged ones in three rows, the right ones in one."""
    sets = {
        "GSM8K": released(500, 29, 464, int),
        "NuminaMath": [
            {k: v for k, v in row.items() if k != "skipped" or v} for row in released(161, 7, 147, str)
        ],
        "MATH-500": released(479, 115, 363),
        "LiveMathBench": released(57, 0, 32, lambda x: "1" if x else "0"),
    }
    write_counts(tmp_path / "counts.csv", [count_traces(name, rows) for name, rows in sets.items()])
    found = {row["set"]: row for row in csv.DictReader((tmp_path / "counts.csv").open())}
    assert [int(found[s]["judged"]) for s in sets] == [471, 154, 364, 57]
    assert [int(found[s]["correct"]) for s in sets] == [464, 147, 363, 32]
    assert [float(found[s]["correct_of_total"]) for s in sets] == [0.928, 0.913, 0.7578, 0.5614]
    assert int(found["all"]["total"]) == 1197
    assert int(found["all"]["correct"]) == 1006
    assert float(found["all"]["correct_of_total"]) == 0.8404


def test_counting_files_of_several_sources(tmp_path):
    rows = [
        {"dataset": "gsm8k", "correctness_label": True},
        {"dataset": "numina", "correctness_label": False},
    ]
    path = tmp_path / "easy.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outputs = {"counts": tmp_path / "counts.csv"}
    store = WorkStore(tmp_path / "work")
    execute(COUNT_TRACES, CountJob(sets=("easy",)), {"traces": [path]}, outputs, store)
    found = list(csv.DictReader(outputs["counts"].open()))
    assert [(r["set"], r["source"], r["correct"]) for r in found] == [
        ("easy", "gsm8k", "1"), ("easy", "numina", "0"), ("all", "all", "1"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="1 files"):
        execute(COUNT_TRACES, CountJob(sets=("a", "b")), {"traces": [path]}, outputs, store)
