"""Judging mined negatives: the endpoint's failures, nothing asked twice, and what comes of the answers."""

import json
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chat_endpoint import says, stand_in
from mining_driver import read_rows, write_rows

from realign.artifacts.command import NodeError, UserError, execute
from realign.artifacts.store import WorkStore
from realign.mining import endpoint as endpoint_module
from realign.mining.answers import Answers
from realign.mining.commands import AUDIT, RELABEL
from realign.mining.endpoint import Endpoint
from realign.mining.judges import Question, Rules, understood
from realign.mining.rates import Reliability, rate
from realign.mining.relabel import mended
from realign.study.judging import AuditJob, Judge, RelabelJob, RuleJudge
from realign.text.pairs import PairRow

KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(endpoint_module, "LONGEST_WAIT", 0.01)


def made(folder, rows=60, negatives=3, wrong=0.3, seed=0):
    """Mined rows whose negatives say whether they answer; margins are small where they do."""
    rng = np.random.default_rng(seed)
    pairs, table = [], []
    for row in range(rows):
        answers = rng.random(negatives) < wrong
        texts = [f"{'right' if a else 'wrong'} text {row} {i}" for i, a in enumerate(answers)]
        pairs.append((f"query {row}", [f"known {row}"], texts))
        for place, a in enumerate(answers):
            margin = float(rng.uniform(0.05, 0.2) if a else rng.uniform(0.1, 0.6))
            table.append(
                {"row": row, "place": place, "rank": place + 1, "score": 0.9 - margin, "margin": margin}
            )
    write_rows(folder / "mined.jsonl", pairs)
    pq.write_table(pa.Table.from_pylist(table), folder / "margins.parquet")
    return pairs, {"mined": folder / "mined.jsonl", "margins": folder / "margins.parquet"}


def honest(body):
    """Yes where the candidate says that it is right."""
    candidate = body["messages"][1]["content"].split("Candidate: ")[1]
    return says("Yes." if candidate.startswith("right") else "no")


def erring(miss, accuse):
    """Errs at these rates, about the same texts each time."""

    def reply(body):
        candidate = body["messages"][1]["content"].split("Candidate: ")[1].split("\n")[0]
        luck = np.random.default_rng(list(candidate.encode())).random()
        right = candidate.startswith("right")
        return says("yes" if right != (luck < (miss if right else accuse)) else "no")

    return reply


def relabel(folder, inputs, server, **settings):
    given = {"judge": {"chat": {"url": server.url, "model": "m"}}, "judged": "all", "dataset": "d"} | settings
    places = {name: folder / f"{name}.out" for name in ("pairs", "labels", "report")}
    execute(RELABEL, RelabelJob(**given), inputs, places, WorkStore(folder / "store"))
    return read_rows(places["pairs"]), json.loads(places["report"].read_text("utf-8"))


@pytest.mark.parametrize("answers", ["keep", "drop", "promote"])
def test_relabelling_finds_what_was_planted(tmp_path, answers):
    pairs, inputs = made(tmp_path)
    with stand_in(honest) as server:
        rows, report = relabel(tmp_path, inputs, server, answers=answers, least=0)
    right = sum(text.startswith("right") for _, _, texts in pairs for text in texts)
    assert report["answers"] == right > 20
    assert (report["judged"], report["negatives"]) == (180, 180)
    for row, (query, positives, texts) in zip(rows, pairs, strict=True):
        found = [t for t in texts if t.startswith("right")]
        assert row["query"][1] == query
        assert row["neg"] == (texts if answers == "keep" else [t for t in texts if t not in found])
        assert row["pos"] == (positives + found if answers == "promote" else positives)


def test_rows_left_with_too_few_are_dropped_and_counted(tmp_path):
    pairs, inputs = made(tmp_path, wrong=0.6)
    with stand_in(honest) as server:
        rows, report = relabel(tmp_path, inputs, server, least=2)
    left = [sum(t.startswith("wrong") for t in texts) for _, _, texts in pairs]
    assert report["rows"]["out"] == len(rows) == sum(n >= 2 for n in left)
    assert report["rows"]["dropped"] == sum(n < 2 for n in left) > 0


def test_the_riskiest_are_those_of_smallest_margin(tmp_path):
    _, inputs = made(tmp_path)
    table = pq.read_table(inputs["margins"]).to_pandas()
    with stand_in(honest) as server:
        relabel(tmp_path, inputs, server, judged="riskiest", share=0.25)
        assert len(server.asked) == 45
    judged = pq.read_table(tmp_path / "labels.out").to_pandas().merge(table, on=["row", "place"])
    others = table.merge(judged[["row", "place"]], how="left", indicator=True)
    assert judged.margin.max() <= others[others._merge == "left_only"].margin.min()


def test_a_killed_relabelling_asks_for_nothing_twice(tmp_path, monkeypatch):
    _, inputs = made(tmp_path)
    add, count = Answers.add, iter(range(10_000))

    class KilledError(BaseException):
        pass

    def killed(self, key, label):
        if next(count) == 70:
            with self.path.open("ab") as stream:
                stream.write(b'{"key": "half a li')
            raise KilledError
        add(self, key, label)

    with stand_in(honest) as server:
        monkeypatch.setattr(Answers, "add", killed)
        with pytest.raises(KilledError):
            relabel(tmp_path, inputs, server, requests_at_once=1)
        monkeypatch.setattr(Answers, "add", add)
        before = len(server.asked)
        _, report = relabel(tmp_path, inputs, server, requests_at_once=1)
        assert report["judged"] == 180
        assert len(server.asked) == before + 110  # 70 answers were kept
        relabel(tmp_path, inputs, server, answers="promote")  # another setting, and no call
        assert len(server.asked) == before + 110


@pytest.mark.parametrize("failure", [429, 500, 503, "cut", b"not JSON", b"{}", b'{"error": "full"}'])
def test_what_passes_is_tried_again(tmp_path, failure):
    _, inputs = made(tmp_path, rows=3)
    with stand_in(honest) as server:
        server.failures = [failure]
        server.headers = {"Retry-After": "0"}
        _, report = relabel(tmp_path, inputs, server, requests_at_once=1)
        assert len(server.asked) == 10
    assert report["not_understood"] == 0


def test_an_error_sent_as_a_success_is_no_label(tmp_path):
    _, inputs = made(tmp_path, rows=1)
    with stand_in(lambda body: {"error": {"message": "overloaded"}}) as server:
        with pytest.raises(NodeError, match=r"no answer in 3 tries .*no completion .*overloaded"):
            relabel(tmp_path, inputs, server, tries=3, requests_at_once=1)
        server.reply = honest
        _, report = relabel(tmp_path, inputs, server)
    assert report["not_understood"] == 0


def test_a_slow_answer_is_asked_for_again(tmp_path):
    _, inputs = made(tmp_path, rows=2)
    with stand_in(honest) as server:
        server.failures = ["slow"]
        _, report = relabel(tmp_path, inputs, server, timeout=1.0, requests_at_once=1)
        assert len(server.asked) >= 7  # more where a busy machine makes other answers late too
    assert report["judged"] == 6


def test_an_endpoint_that_stays_away_is_an_error_and_keeps_what_it_said(tmp_path):
    _, inputs = made(tmp_path, rows=4)
    with stand_in(honest) as server:
        server.failures = [None] * 5 + [503] * 3
        with pytest.raises(UserError, match=r"no answer in 3 tries .*HTTP 503.*answers so far are kept"):
            relabel(tmp_path, inputs, server, tries=3, requests_at_once=1)
        server.asked.clear()
        server.failures.clear()
        relabel(tmp_path, inputs, server, requests_at_once=1)
        assert len(server.asked) == 7


def test_answers_that_are_neither_are_counted_and_stay_negatives(tmp_path):
    pairs, inputs = made(tmp_path, rows=3)
    with stand_in(lambda body: says("Well, that depends.")) as server:
        rows, report = relabel(tmp_path, inputs, server)
        assert len(server.asked) == 18  # each once more
        relabel(tmp_path, inputs, server, answers="keep")
        assert len(server.asked) == 18
    assert report["not_understood"] == 9
    assert [row["neg"] for row in rows] == [texts for _, _, texts in pairs]


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ("yes", True), ("No.", False), ("**Yes**, because", True), ("<think>no, yes?</think>\n\nno", False),
        ("maybe", None), ("", None), (None, None), ("yesterday", None),
    ],
)  # fmt: skip
def test_words_that_are_understood(said, label):
    assert understood(says(said)) is label


def test_a_key_comes_from_the_environment_and_is_written_nowhere(tmp_path, monkeypatch, caplog):
    _, inputs = made(tmp_path, rows=2)
    caplog.set_level("DEBUG")
    with stand_in(honest) as server:
        chat = {"url": server.url, "model": "m", "key_variable": "JUDGES_KEY"}
        monkeypatch.delenv("JUDGES_KEY", raising=False)
        with pytest.raises(UserError, match="environment variable JUDGES_KEY, which holds its key, is not"):
            relabel(tmp_path, inputs, server, judge={"chat": chat})
        monkeypatch.setenv("JUDGES_KEY", KEY)
        server.failures = [401]
        with pytest.raises(UserError, match=r"HTTP 401 .*check the key in .* JUDGES_KEY") as refused:
            relabel(tmp_path, inputs, server, judge={"chat": chat}, requests_at_once=1)
        server.failures = [429]
        relabel(tmp_path, inputs, server, judge={"chat": chat})
        assert set(server.keys) == {f"Bearer {KEY}"}
    assert KEY not in str(refused.value)
    assert KEY not in caplog.text
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in content for content in written)


def test_a_key_loses_its_line_break_and_others_are_refused_unseen(monkeypatch):
    monkeypatch.setenv("JUDGES_KEY", f" {KEY}\r\n")
    with stand_in(lambda body: says("no")) as server:
        server.failures = [401]
        with pytest.raises(UserError) as refused:
            Endpoint(server.url, "JUDGES_KEY").post("chat/completions", {})
        assert server.keys == [f"Bearer {KEY}"]
        assert KEY not in str(refused.value)
        for key in (f"{KEY}\r\nHost: x", f"{KEY}\N{SNOWMAN}", f"{KEY}\x7f"):
            monkeypatch.setenv("JUDGES_KEY", key)
            with pytest.raises(UserError, match=r"JUDGES_KEY.* holds characters that no key has") as refused:
                Endpoint(server.url, "JUDGES_KEY")
            assert KEY not in str(refused.value)


def test_another_place_of_the_key_makes_nothing_stale():
    chat = {"url": "http://localhost:1/v1", "model": "m"}
    jobs = [AuditJob(judge={"chat": chat | own}, **of_job) for own, of_job in (
        ({}, {}), ({"key_variable": "A"}, {}), ({"key_variable": "A"}, {"key_variable": "B"}),
    )]  # fmt: skip
    assert jobs[0].as_slice() == jobs[1].as_slice() == jobs[2].as_slice()
    assert AuditJob.model_validate(jobs[2].as_slice()).judge.chat.url == chat["url"]


def test_a_redirect_is_not_followed():
    with stand_in(lambda body: says("no")) as server:
        server.failures, server.headers = [307], {"Location": server.url}
        with pytest.raises(UserError, match="a redirect is not followed"):
            Endpoint(server.url).post("chat/completions", {})
        assert len(server.asked) == 1


def audit(folder, inputs, judge, **settings):
    given = {"judge": judge, "dataset": "d", "study": "s"} | settings
    places = {name: folder / f"{name}.out" for name in ("tidy", "labels", "report")}
    execute(AUDIT, AuditJob(**given), inputs, places, WorkStore(folder / "store"))
    return pq.read_table(places["tidy"]).to_pandas(), json.loads(places["report"].read_text("utf-8"))


def test_an_audit_corrects_for_the_judges_errors(tmp_path):
    pairs, inputs = made(tmp_path, rows=400, wrong=0.12)
    gold = tmp_path / "gold.jsonl"
    known = [("right", i) for i in range(150)] + [("wrong", i) for i in range(150)]
    gold.write_text(
        "".join(
            json.dumps({"query": "q", "passage": f"{word} gold {i}", "answers": word == "right"}) + "\n"
            for word, i in known
        )
    )
    truth = np.mean([text.startswith("right") for _, _, texts in pairs for text in texts])
    with stand_in(erring(miss=0.15, accuse=0.1)) as server:
        judge = {"chat": {"url": server.url, "model": "m"}}
        table, report = audit(tmp_path, inputs | {"gold": gold}, judge, sample=400, groups=3)
        assert len(server.asked) == 700
        _, plain = audit(tmp_path, inputs, judge, sample=400)
        assert len(server.asked) == 700  # the same sample, whose labels are kept
    assert report["interval"][0] <= truth <= report["interval"][1]
    assert abs(report["rate"] - truth) < 0.06 < report["judged"] - truth + 0.03
    assert plain["gold"] is None
    assert report["gold"]["answers"] == report["gold"]["others"] == 150
    assert table.by.tolist()[0] == "all"
    assert table.by.tolist()[-3:] == ["margin"] * 3
    assert table.n[table.by == "margin"].sum() == table.n[table.by == "rank"].sum() == table.n[0] == 400
    by_margin = table[table.by == "margin"].value.tolist()
    assert by_margin[0] > by_margin[-1]


@pytest.mark.parametrize("kinds", [[], [True, True]])
def test_known_labels_are_looked_at_before_any_call(tmp_path, kinds):
    _, inputs = made(tmp_path, rows=2)
    gold = tmp_path / "gold.jsonl"
    rows = [json.dumps({"query": "q", "passage": f"p {i}", "answers": kind}) for i, kind in enumerate(kinds)]
    gold.write_text("\n".join(rows))
    with stand_in(honest) as server:
        judge = {"chat": {"url": server.url, "model": "m"}}
        with pytest.raises(UserError, match=r"gold\.jsonl: known labels of both kinds are needed"):
            audit(tmp_path, inputs | {"gold": gold}, judge)
        assert not server.asked


@pytest.mark.parametrize(
    ("passage", "answers"),
    [
        ("", False), ("red", False), ("the red", False), ("red house by", True), ("ed house by", False),
        ("THE red house, by the sea!", True), ("…", False),
    ],
)  # fmt: skip
def test_rules_compare_whole_words_and_enough_of_them(passage, answers):
    rules = Rules(RuleJudge())
    positive = "The Red House by the sea"
    questions = [Question("q", positive, passage), Question("q", passage, positive)]
    assert list(rules.label(questions)) == [(0, answers), (1, answers)]


def test_rules_need_no_model(tmp_path):
    rows = [
        ("q", ["The Red House, by the sea"], ["the red house", "a blue house", "by the sea the red House,"])
    ]
    write_rows(tmp_path / "mined.jsonl", rows)
    table = [{"row": 0, "place": i, "rank": i, "score": 0.5, "margin": 0.1} for i in range(3)]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "margins.parquet")
    inputs = {"mined": tmp_path / "mined.jsonl", "margins": tmp_path / "margins.parquet"}
    _, report = audit(tmp_path, inputs, {"rules": {}})
    assert report["judged"] == pytest.approx(2 / 3)
    labels = pq.read_table(tmp_path / "labels.out").to_pandas()
    assert labels.answers.tolist() == [True, False, True]


@pytest.mark.parametrize("planted", [0.05, 0.12, 0.35])
@pytest.mark.parametrize(("se", "sp"), [(0.9, 0.95), (0.75, 0.85)])
@pytest.mark.parametrize("gold", [60, 300])
def test_the_interval_covers_the_planted_rate(planted, se, sp, gold):
    """As often as it says, over 2,000 audits; the judge's own rate is far from it."""
    rng = np.random.default_rng(7)
    called = rng.binomial(500, planted * se + (1 - planted) * (1 - sp), 2000)
    found, cleared = rng.binomial(gold, se, 2000), rng.binomial(gold, sp, 2000)
    made = [
        rate(int(c), 500, 0.95, Reliability(int(f), gold, int(o), gold))
        for c, f, o in zip(called, found, cleared, strict=True)
    ]
    covered = np.mean([one.low <= planted <= one.high for one in made])
    assert 0.90 <= covered <= 0.98
    assert np.mean([one.value for one in made]) == pytest.approx(planted, abs=0.02)


def test_a_judge_no_better_than_chance_leaves_the_rate_open():
    one = rate(200, 500, 0.95, Reliability(40, 100, 50, 100))
    assert np.isnan(one.value)
    assert (one.low, one.high) == (0.0, 1.0)
    plain = rate(50, 500, 0.95)
    assert plain.low < plain.value == 0.1 < plain.high


def test_a_secret_in_an_address_is_refused():
    for url, message in (
        ("ftp://x/v1", "begins with http"),
        ("http://a:b@x/v1", re.escape("key_variable")),
        ("http://x/v1?key=secret", r"no \? and no #"),
        ("http://x/v1#secret", r"no \? and no #"),
    ):
        with pytest.raises(ValueError, match=message):
            RelabelJob(judge={"chat": {"url": url, "model": "m"}})
    with pytest.raises(ValueError, match="no judge"):
        RelabelJob()


def test_scores_and_weights_stay_with_their_texts():
    row = PairRow("q", ("a",), ("b", "c", "d"), "i", (9.0,), (3.0, 2.0, 1.0), weight=2.0)
    wrong = {(0, 1)}
    for answers, expected in (
        ("drop", PairRow("q", ("a",), ("b", "d"), "i", (9.0,), (3.0, 1.0), 2.0)),
        ("promote", PairRow("q", ("a", "c"), ("b", "d"), "i", (9.0, 2.0), (3.0, 1.0), 2.0)),
    ):
        assert list(mended([row], wrong, RelabelJob(answers=answers, judge=Judge(rules={})), Counter())) == [
            expected
        ]
