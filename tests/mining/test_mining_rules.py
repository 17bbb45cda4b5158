"""What is refused and why, what becomes of rows with too few, and what broken input does."""

import gzip
import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from mining_driver import TableTeacher, dataset, read_rows, write_rows

from realign.artifacts.command import UserError, execute
from realign.artifacts.store import WorkStore
from realign.mining import mine
from realign.mining.collection import collect
from realign.mining.commands import MINE
from realign.study.mining import MineJob
from realign.text.pairs import PairRow


def on_line(*scores):
    """Vectors whose inner products with the query (1, 0) are the given scores."""
    return [np.array([s, np.sqrt(1 - s * s)], np.float32) for s in scores]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Mines rows with given vectors; returns (rows, candidates, report)."""

    def mine_rows(rows, vectors, inputs=None, raw=None, **settings):
        teacher = TableTeacher(vectors)
        monkeypatch.setattr(mine, "teacher_of", lambda job, texts: teacher)
        raw = raw or write_rows(tmp_path / "raw.jsonl", rows)
        places = {name: tmp_path / f"{name}.out" for name in ("pairs", "candidates", "report")}
        job = MineJob(**{"negatives": 1, "range_max": 20, "relative_margin": None} | settings)
        execute(MINE, job, {"raw": raw} | (inputs or {}), places, WorkStore(tmp_path / "store"))
        table = pq.read_table(places["candidates"]).to_pandas()
        return read_rows(places["pairs"]), table, json.loads(places["report"].read_text("utf-8"))

    return mine_rows


def line_dataset(scores, positive=0.8):
    """One query, its positive, and other rows whose positives score as given."""
    query, good, *others = on_line(1.0, positive, *scores)
    rows = [("ask", ["good"], [])] + [(f"other {i}", [f"text {i}"], []) for i in range(len(scores))]
    vectors = {"ask": query, "good": good}
    vectors |= {f"text {i}": v for i, v in enumerate(others)}
    vectors |= {f"other {i}": v for i, v in enumerate(others)}
    return rows, vectors


def fates(table, row=0):
    return dict(zip(table[table.row == row].passage, table[table.row == row].reason, strict=True))


def test_each_reason(run):
    rows, vectors = line_dataset([0.95, 0.78, 0.7, 0.6, 0.5, 0.1])
    made, table, report = run(rows, vectors, relative_margin=0.05, min_score=0.3, range_min=1, too_few="keep")
    # passages: 0 good, then text 0 … text 5
    assert fates(table) == {
        0: "positive", 1: "relative_margin", 2: "relative_margin", 3: "range_min", 4: "kept",
        5: "spare", 6: "min_score",
    }  # fmt: skip
    assert made[0]["neg"] == ["text 3"]
    assert report["candidates"]["positive"] >= 7


def test_positives_of_a_query_in_any_row_and_their_copies_are_never_negatives(run):
    rows, vectors = line_dataset([0.9, 0.7, 0.6])
    copies = {"Text  0": vectors["text 0"], "TEXT 1": vectors["text 1"], "Ask": vectors["ask"]}
    rows += [("ask", ["text 0"], []), ("more", ["Text  0"], []), ("much", ["TEXT 1"], [])]
    rows += [("x", ["Ask"], [])]
    vectors |= copies | {"more": vectors["text 2"], "much": vectors["text 2"], "x": vectors["text 2"]}
    made, table, _ = run(rows, vectors, negatives=3, too_few="keep")
    own = [row for row in made if row["query"][1] == "ask"]
    assert [row["neg"] for row in own] == [["text 1", "text 2"]] * 2
    assert set(table[(table.row == 0) & (table.reason == "positive")].passage) == {0, 1, 4}
    assert set(table[(table.row == 0) & (table.reason == "query")].score.round(3)) == {1.0}
    exact, _, _ = run(rows, vectors, negatives=3, too_few="keep", equality="exact", allow_query=True)
    assert exact[0]["neg"] == ["Ask", "Text  0", "text 1"]


def test_existing_negatives_are_kept_and_topped_up_row_by_row(run):
    rows, vectors = line_dataset([0.7, 0.6, 0.5, 0.4])
    rows[0] = ("ask", ["good"], ["text 0", "from elsewhere"])
    rows[1] = ("other 0", ["text 0"], ["a", "b", "c", "d"])
    made, table, report = run(rows, vectors, negatives=3)
    assert made[0]["neg"] == ["text 0", "from elsewhere", "text 1"]
    assert made[1]["neg"] == ["a", "b", "c", "d"]
    assert len(made[2]["neg"]) == 3
    assert fates(table)[1] == "existing"
    repeated, _, _ = run(rows, vectors, negatives=3, allow_existing=True)
    assert repeated[0]["neg"] == ["text 0", "from elsewhere", "text 0"]
    assert report["rows"]["complete"] == 5


def test_an_existing_negative_that_is_a_positive_is_taken_out_and_counted(run):
    rows, vectors = line_dataset([0.7, 0.6])
    rows[0] = ("ask", ["good"], ["GOOD", "x", "X"])
    made, _, report = run(rows, vectors, negatives=2)
    assert made[0]["neg"] == ["x", "text 0"]
    assert report["input"]["rows_left_out"] == {
        "existing negative, positive": 1, "existing negative, repeated": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("too_few", "negatives", "counted"),
    [
        ("drop", None, "dropped"),
        ("existing", ["had"], "existing_only"),
        ("keep", ["had", "text 1"], "with_fewer"),
        ("relax", ["had", "text 1", "text 2"], "complete"),
    ],
)
def test_too_few(run, too_few, negatives, counted):
    rows, vectors = line_dataset([0.79, 0.7, 0.1])
    rows = [("ask", ["good"], ["had"]), *rows[1:]]
    made, table, report = run(
        rows,
        vectors,
        negatives=3,
        relative_margin=0.05,
        min_score=0.3,
        too_few=too_few,
        relax=("min_score", "relative_margin"),
    )
    own = [row["neg"] for row in made if row["query"][1] == "ask"]
    assert own == ([] if negatives is None else [negatives])
    assert report["rows"][counted] >= 1
    assert report["rows"]["in"] == 4
    assert report["rows"]["out"] == len(made)
    expected = {"drop": "short", "existing": "short", "keep": "kept", "relax": "kept"}[too_few]
    assert fates(table)[2] == expected
    assert fates(table)[3] == ("relaxed" if too_few == "relax" else "min_score")


def test_a_query_whose_every_candidate_is_refused(run):
    rows, vectors = line_dataset([0.9, 0.85], positive=0.3)
    settings = {"relative_margin": 0.05, "negatives": 1}
    dropped, table, report = run(rows, vectors, **settings)
    assert "ask" not in [row["query"][1] for row in dropped]
    assert set(fates(table).values()) == {"positive", "relative_margin"}
    assert report["rows"]["dropped"] >= 1
    kept, _, report = run(rows, vectors, too_few="keep", **settings)
    assert [row["neg"] for row in kept if row["query"][1] == "ask"] == [[]]
    assert report["rows"]["without"] >= 1


def test_margins_of_negative_scores_are_below_the_positive(run):
    """For a positive that scores below zero the relative margin still lies below it."""
    rows, vectors = line_dataset([-0.405, -0.43, -0.5], positive=-0.4)
    _, table, _ = run(rows, vectors, relative_margin=0.05, too_few="keep")
    assert fates(table) == {0: "positive", 1: "relative_margin", 2: "kept", 3: "spare"}


def test_a_corpus_of_its_own(run, tmp_path):
    rows, vectors = line_dataset([0.7, 0.6])
    vectors |= dict(zip(["new 0", "new 1"], on_line(0.75, 0.65), strict=True))
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": t}) + "\n" for t in ("new 0", "new 1", "good")))
    only, _, _ = run(rows, vectors, {"corpus": corpus}, passages="corpus", negatives=2)
    assert only[0]["neg"] == ["new 0", "new 1"]
    both, _, report = run(rows, vectors, {"corpus": corpus}, passages="both", negatives=3)
    assert both[0]["neg"] == ["new 0", "text 0", "new 1"]
    assert report["passages"] == 5
    with pytest.raises(UserError, match="a corpus goes with"):
        run(rows, vectors, {"corpus": corpus})
    with pytest.raises(UserError, match="a corpus goes with"):
        run(rows, vectors, passages="corpus")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(UserError, match="no passage"):
        run(rows, vectors, {"corpus": empty}, passages="corpus")


def test_a_row_gets_no_text_twice(run):
    """A copy up to case and white space is refused, and the next candidate takes its place."""
    rows, vectors = line_dataset([0.7, 0.6, 0.5, 0.4])
    rows[0] = ("ask", ["good"], ["Text  1"])
    rows += [("more", ["TEXT 0"], []), ("much", ["text  2"], [])]
    vectors |= {"TEXT 0": vectors["text 0"], "more": vectors["text 3"]}
    vectors |= {"text  2": vectors["text 2"], "much": vectors["text 3"]}
    made, table, report = run(rows, vectors, negatives=4)
    assert made[0]["neg"] == ["Text  1", "text 0", "text 2", "text 3"]
    # passages: 0 good, 1 … 4 text 0 … text 3, then the copies
    assert fates(table) == {
        0: "positive", 1: "kept", 5: "repeated", 2: "existing", 3: "kept", 6: "repeated", 4: "kept",
    }  # fmt: skip
    assert report["candidates"]["repeated"] == (table.reason == "repeated").sum()
    exact, table, _ = run(rows, vectors, negatives=4, equality="exact")
    assert exact[0]["neg"] == ["Text  1", "text 0", "TEXT 0", "text 1"]
    assert "repeated" not in set(table.reason)
    for seed in range(8):
        drawn, _, _ = run(rows, vectors, negatives=4, choose="random", seed=seed)
        assert len({" ".join(t.lower().split()) for t in drawn[0]["neg"]}) == 4


def test_relaxing_gives_no_text_twice(run):
    rows, vectors = line_dataset([0.79, 0.7, 0.6])
    rows += [("more", ["TEXT 0"], []), ("much", ["TEXT 1"], [])]
    vectors |= dict(zip(["TEXT 0", "TEXT 1"], on_line(0.785, 0.775), strict=True))
    vectors |= {"more": vectors["text 2"], "much": vectors["text 2"]}
    made, table, _ = run(rows, vectors, negatives=4, relative_margin=0.05, too_few="relax")
    # text 1 is kept; of those too close, its copy and the second copy of text 0 are passed over
    assert made[0]["neg"] == ["text 0", "text 1", "text 2"]
    assert fates(table) == {
        0: "positive", 1: "relaxed", 4: "relative_margin", 5: "relative_margin", 2: "kept", 3: "kept",
    }  # fmt: skip


def test_what_has_no_vector_gets_no_negatives_and_is_none(run):
    """A vector of zeros is as near to one text as to any other: the first passages would be taken."""
    rows, vectors = line_dataset([0.7, 0.6, -0.2, -0.3])
    vectors["other 1"] = vectors["text 2"] = np.zeros(2, np.float32)
    settings = {"negatives": 3, "relative_margin": 0.05, "too_few": "keep"}
    made, table, report = run(rows, vectors, **settings)
    assert made[0]["neg"] == ["text 0", "text 1", "text 3"]
    assert fates(table)[3] == "no_vector"
    assert made[2]["neg"] == []
    assert set(fates(table, 2).values()) == {"no_vector"}
    assert report["without_vector"] == {"queries": 1, "passages": 1}
    assert report["candidates"]["no_vector"] == (table.reason == "no_vector").sum() == 9
    relaxed, _, _ = run(rows, vectors, **settings | {"too_few": "relax"})
    assert relaxed[2]["neg"] == []
    dropped, _, _ = run(rows, vectors, **settings | {"too_few": "drop"})
    assert "other 1" not in [row["query"][1] for row in dropped]


def test_a_query_that_shares_no_word_with_any_text_has_no_vector(tmp_path):
    rows = [(f"stone{i} wall{i % 3}", [f"stone{i} wall{(i + 1) % 3}"], []) for i in range(6)]
    rows.append(("@@", ["wall0 wall1"], []))
    raw = write_rows(tmp_path / "words.jsonl", rows)
    places = {name: tmp_path / f"{name}.out" for name in ("pairs", "report")}
    job = MineJob(negatives=1, range_max=5, lexical={"characters": 0}, too_few="keep")
    execute(MINE, job, {"raw": raw}, places, WorkStore(tmp_path / "words"))
    assert read_rows(places["pairs"])[-1]["neg"] == []
    assert json.loads(places["report"].read_text("utf-8"))["without_vector"]["queries"] == 1


def test_the_negatives_of_a_repeated_row_go_to_the_row_that_stays(run):
    rows, vectors = line_dataset([0.7, 0.6])
    rows[0] = ("ask", ["good"], ["own"])
    rows += [("ASK", ["Good"], ["new", "OWN", "more", "good"]), ("ask", ["good"], ["New", "last"])]
    made, _, report = run(rows, vectors, negatives=5)
    assert made[0]["neg"] == ["own", "new", "more", "last", "text 0"]
    assert report["input"] == {
        "rows_left_out": {"duplicate": 2, "existing negative, positive": 1}, "negatives_merged": 4,
    }  # fmt: skip


def test_duplicate_rows_are_dropped_and_counted(run):
    rows, vectors = line_dataset([0.7, 0.6])
    rows += [("ASK", ["Good"], []), ("ask", ["good"], [])]
    made, _, report = run(rows, vectors)
    assert len(made) == 3
    assert report["input"]["rows_left_out"] == {"duplicate": 2}


def test_rows_that_all_find_too_little_are_an_error(run):
    rows, vectors = line_dataset([0.7, 0.6])
    with pytest.raises(
        UserError, match=r"raw.jsonl: no row is left, since none of 3 found .*candidates: .*max_score \d"
    ) as told:
        run(rows, vectors, max_score=-1.0, too_few="drop")
    assert "out/candidates" not in str(told.value)  # which is deleted with what else is half made
    _, candidates, _ = run(rows, vectors, max_score=-1.0, too_few="keep")
    assert set(candidates.reason) == {"max_score", "positive"}


BROKEN = {
    "empty query": (b'{"query": ["i", "  "], "pos": ["p"]}', "the query is empty"),
    "positive missing": (b'{"query": ["i", "q"], "neg": []}', "'pos' is missing or empty"),
    "invalid UTF-8": (b'{"query": ["i", "\xff"], "pos": ["p"]}', "not UTF-8"),
    "not JSON": (b'{"query": ["i", "q"', "not JSON"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_lines_stop_with_their_place_or_are_counted(run, tmp_path, case):
    line, message = BROKEN[case]
    rows, vectors = line_dataset([0.7, 0.6])
    raw = write_rows(tmp_path / "broken.jsonl", rows)
    raw.write_bytes(raw.read_bytes() + line + b"\n")
    with pytest.raises(UserError, match=f"broken.jsonl, line 4: .*{message}"):
        run(rows, vectors, raw=raw)
    assert not (tmp_path / "pairs.out").exists()
    made, _, report = run(rows, vectors, raw=raw, invalid="drop")
    assert len(made) == 3
    assert sum(report["input"]["rows_left_out"].values()) == 1


def test_a_line_over_the_maximum_length_is_never_held(run, tmp_path):
    """Seventeen megabytes in one line, written as a stream, packed to some kilobytes."""
    rows, vectors = line_dataset([0.7, 0.6])
    raw = tmp_path / "long.jsonl.gz"
    with gzip.open(raw, "wb") as stream:
        stream.write(write_rows(tmp_path / "short.jsonl", rows).read_bytes())
        stream.write(b'{"query": ["i", "')
        for _ in range(17):
            stream.write(b"x" * (1 << 20))
        stream.write(b'"], "pos": ["p"]}\n')
    with pytest.raises(UserError, match=r"long.jsonl.gz, line 4: longer than 16777216 bytes"):
        run(rows, vectors, raw=raw)
    made, _, _ = run(rows, vectors, raw=raw, invalid="drop")
    assert len(made) == 3


def test_a_file_without_rows(run, tmp_path):
    raw = tmp_path / "empty.jsonl"
    raw.write_text("\n")
    with pytest.raises(UserError, match=r"empty.jsonl: no row is left"):
        run([], {}, raw=raw)


class FlippedCrossEncoder:
    """Likes what the teacher does not."""

    def __init__(self, vectors):
        self.vectors = vectors

    def predict(self, pairs, **_):
        return np.array([3 - 2 * float(self.vectors[q] @ self.vectors[t]) for q, t in pairs])


def test_a_cross_encoder_decides_about_candidates_and_positives(run, monkeypatch):
    rows, vectors = line_dataset([0.9, 0.7, 0.4, 0.2])
    judge = FlippedCrossEncoder(vectors)
    monkeypatch.setattr(mine, "_cross_encoder", lambda job: judge)
    made, table, report = run(rows, vectors, relative_margin=0.0, negatives=1, too_few="keep")
    own = table[table.row == 0]
    assert own.positive_score.unique().tolist() == [np.float32(1.4)]
    assert own.score.is_monotonic_decreasing
    assert fates(table) == {
        4: "relative_margin", 3: "relative_margin", 2: "relative_margin", 0: "positive", 1: "kept",
    }  # fmt: skip
    assert made[0]["neg"] == ["text 0"]
    assert report["histogram"]["edges"][-1] > 2


def test_an_approximate_index_states_its_recall(run):
    rows, vectors = dataset(0, 400)
    exact, _, _ = run(rows, vectors, negatives=3, relative_margin=0.05)
    index = {"above": 10, "lists": 8, "probes": 8}
    near, _, report = run(rows, vectors, negatives=3, relative_margin=0.05, approximate=index)
    assert report["recall"] == 1.0  # every list is looked into
    assert near == exact
    poor = index | {"lists": 40, "probes": 1}
    with pytest.raises(UserError, match=r"raise approximate\.probes"):
        run(rows, vectors, approximate=poor)
    _, _, report = run(rows, vectors, approximate=poor | {"least_recall": 0.0})
    assert 0 < report["recall"] < 0.95


def test_reasons_are_whole(run):
    """Every candidate of every row has exactly one fate, and the counts add up."""
    rows, vectors = dataset(5, 80)
    _, table, report = run(rows, vectors, negatives=3, relative_margin=0.05, max_score=0.5)
    assert dict(Counter(table.reason)) == report["candidates"]
    assert not table.duplicated(["row", "passage"]).any()
    assert (table.groupby("row").size() == min(21, len(rows))).all()


def test_an_instruction_before_a_query_is_not_a_query_that_begins_like_it():
    rows = [
        PairRow("b", ("first",), (), "A "),
        PairRow("A b", ("second",), (), ""),
        PairRow("other", ("third",), (), "A "),
    ]
    made = collect(rows, instructions=True, exact=True)
    assert made.queries == ["A b", "A b", "A other"]
    assert [[made.passages[p] for p in made.query_positives.of(q)] for q in made.row_query] == [
        ["first"],
        ["second"],
        ["third"],
    ]


@pytest.mark.parametrize("judged", [False, True])
def test_rows_keep_the_scores_of_their_teacher_where_a_training_shall_distil_them(run, monkeypatch, judged):
    rows, vectors = line_dataset([0.7, 0.4])
    rows[0] = ("ask", ["good"], ["own"])
    vectors["own"] = on_line(0.3)[0]
    if judged:
        monkeypatch.setattr(mine, "_cross_encoder", lambda job: FlippedCrossEncoder(vectors))
    made, _, _ = run(rows, vectors, negatives=2, scores=True, too_few="keep")
    score = lambda cosine: pytest.approx(3 - 2 * cosine if judged else cosine, abs=1e-6)  # noqa: E731
    assert made[0]["pos_scores"] == [score(0.8)]
    cosines = {"own": 0.3, "text 0": 0.7, "text 1": 0.4}
    assert made[0]["neg"][0] == "own"
    assert made[0]["neg_scores"] == [score(cosines[text]) for text in made[0]["neg"]]
    assert all(len(row["neg_scores"]) == len(row["neg"]) for row in made)


def test_another_teachers_scores_leave_a_row_that_gets_new_negatives_and_its_weight_stays(run, tmp_path):
    rows, vectors = line_dataset([0.7, 0.6])
    given = [{"query": query, "pos": pos, "neg": neg, "weight": 2} for query, pos, neg in rows]
    given[0] |= {"neg": ["own"], "pos_scores": [9], "neg_scores": [3]}
    vectors["own"] = on_line(0.3)[0]
    raw = tmp_path / "weighted.jsonl"
    raw.write_text("".join(json.dumps(row) + "\n" for row in given))
    topped, _, _ = run(None, vectors, raw=raw, negatives=2)
    assert topped[0] | {"query": None} == {
        "query": None, "pos": ["good"], "neg": ["own", "text 0"], "weight": 2.0,
    }  # fmt: skip
    whole, _, _ = run(None, vectors, raw=raw, negatives=1)
    assert (whole[0]["pos_scores"], whole[0]["neg_scores"]) == ([9.0], [3.0])
