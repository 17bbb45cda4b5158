"""What a user sees when something is wrong, and that nothing half-made is left."""

import json
import logging
import os
import shutil
import signal
from pathlib import Path
from unittest.mock import Mock

import mteb
import pytest
import torch
from safetensors.torch import load_file, save_file

from realign.artifacts.command import Interrupted, UserError, execute
from realign.artifacts.store import WorkStore
from realign.evaluation import evaluate, models
from realign.evaluation.commands import EVALUATE
from realign.evaluation.encoder import Encoder
from realign.evaluation.prompts import PromptPlan
from realign.evaluation.tasks import build_task, mteb_task
from realign.study.benchmarks import tasks as known_tasks
from realign.study.evaluation import EvaluateTask
from realign.text.streams import open_for_lines
from realign.tools import evaluate as front
from realign.tools.evaluate import main


def run(model, tmp_path, settings, data=None):
    names = {"scores": "scores.json", "record": "record.json", "queries": "queries.parquet"}
    places = {output: tmp_path / "out" / name for output, name in names.items()}
    inputs = {"model": model} | ({"data": data} if data else {})
    execute(EVALUATE, settings, inputs, places, WorkStore(tmp_path / "store"))
    return json.loads(places["scores"].read_text())


def test_a_dataset_that_was_not_fetched_says_how_to_fetch_it(embedder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    with pytest.raises(
        UserError, match=r"(?s)STS12: its dataset mteb/sts12-sts at revision .*fetch_task.*--fetch"
    ):
        run(embedder, tmp_path, EvaluateTask(task="STS12", revision=known_tasks()["STS12"]["revision"]))
    assert not (tmp_path / "out").exists()


def test_a_dataset_that_changed_its_revision_is_refused():
    with pytest.raises(
        UserError, match=r"planned at revision 0000.*takes " + known_tasks()["STS12"]["revision"]
    ):
        mteb_task("STS12", "0000")


def test_another_mteb_than_planned_is_refused():
    with pytest.raises(UserError, match=r"planned with mteb 1\.0\.0"):
        mteb_task("STS12", version="1.0.0")
    with pytest.raises(UserError, match="has no task 'NoSuchTask'"):
        mteb_task("NoSuchTask")


@pytest.mark.parametrize(
    ("kind", "file", "row", "words"),
    [
        ("sts", "test", {"sentence1": "a", "sentence2": "b"}, "line 61: no column 'score'"),
        ("sts", "test", {"sentence1": "a", "sentence2": " ", "score": 1}, "line 61: 'sentence2' is empty"),
        (
            "sts",
            "test",
            {"sentence1": "a", "sentence2": "b", "score": "high"},
            "line 61: 'score' is 'high', not a number",
        ),
        ("retrieval", "qrels", {"query": "q0", "doc": "d999", "score": 1}, "doc 'd999' is not among"),
        ("retrieval", "corpus", {"id": "d0", "text": "again"}, "line 91: the id 'd0' stands twice"),
        ("pair_classification", "test", {"sentence1": "a", "sentence2": "b", "label": 2}, "0 or 1"),
        ("reranking", "test", {"query": "a", "positive": [], "negative": ["b"]}, "no positive"),
    ],
)
def test_a_bad_row_is_named_with_its_file_and_line(tasks, tmp_path, kind, file, row, words):
    folder = shutil.copytree(tasks / kind, tmp_path / kind)
    with (folder / f"{file}.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=words) as caught:
        build_task(EvaluateTask(task="own", type=kind), [folder])
    assert f"{file}.jsonl" in str(caught.value)


def test_malformed_json_and_a_missing_file_are_told(tmp_path):
    (tmp_path / "test.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": \n')
    with pytest.raises(UserError, match=r"test\.jsonl, line 2: not JSON"):
        build_task(EvaluateTask(task="own", type="clustering"), [tmp_path])
    with pytest.raises(UserError, match=r"nowhere\.jsonl: no such file"):
        build_task(EvaluateTask(task="own", type="clustering"), [tmp_path / "nowhere.jsonl"])


def test_text_that_is_not_utf_8_is_told(tmp_path):
    (tmp_path / "test.jsonl").write_bytes(b'{"text": "a", "label": "x"}\n{"text": "\xe9", "label": "x"}\n')
    with pytest.raises(UserError, match=r"test\.jsonl, line 2: not UTF-8"):
        build_task(EvaluateTask(task="own", type="clustering"), [tmp_path / "test.jsonl"])


@pytest.mark.parametrize("name", ["test.jsonl", "test.jsonl.gz", "test.jsonl.zst"])
def test_an_empty_line_between_rows_is_no_row(tmp_path, name):
    with open_for_lines(tmp_path / name) as stream:
        stream.write(b'{"text": "a", "label": "x"}\n\n{"text": "b", "label": "y"}\n\n')
    task = build_task(EvaluateTask(task="own", type="clustering"), [tmp_path / name])
    assert task.content["test"]["text"][:] == ["a", "b"]


def test_running_out_of_memory_is_no_damaged_dataset(monkeypatch):
    task = mteb_task("STS12")
    monkeypatch.setattr(task, "load_data", Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        evaluate._load_texts(task, "STS12")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,label\nleaves, roots and bark,wood\n", "line 2: 3 cells where the first line has 2"),
        ("text,label\nleaves\n", "line 2: 1 cells where the first line has 2"),
        ('text,label\n"leaves,wood\nroots,wood\n', "is a quote left open"),
        ('text,label\n"leaves" fall,wood\n', "line 2: .*expected after"),
        ("text,label\nfeuilles tomb\xe9es,wood\n", "not UTF-8"),
    ],
)
def test_a_table_whose_cells_slip_is_told(tmp_path, content, words):
    (tmp_path / "test.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=rf"test\.csv, .*{words}"):
        build_task(EvaluateTask(task="own", type="clustering"), [tmp_path / "test.csv"])


def test_a_table_as_spreadsheets_write_it_is_read(tmp_path):
    """A mark before the first name, an empty last line, a text longer than the reader's own limit."""
    rows = f'text,label\r\n"one, two",a\r\n{"word " * 40_000},b\r\n\r\n'
    (tmp_path / "test.csv").write_text("\ufeff" + rows, encoding="utf-8", newline="")
    task = build_task(EvaluateTask(task="own", type="clustering"), [tmp_path / "test.csv"])
    assert task.content["test"]["label"][:] == ["a", "b"]
    assert task.content["test"]["text"][0] == "one, two"


def test_judgements_are_whole_numbers_and_unjudged_queries_are_told(tasks, tmp_path, caplog):
    folder = shutil.copytree(tasks / "retrieval", tmp_path / "own")
    with (folder / "queries.jsonl").open("a") as stream:
        stream.write('{"id": "unjudged", "text": "who asks?"}\n')
    with caplog.at_level(logging.WARNING):
        task = build_task(EvaluateTask(task="own", type="retrieval"), [folder])
    assert "1 of 25 queries stand in no row" in caplog.text
    assert "unjudged" not in task.content["default"]["test"]["queries"]["id"]
    with (folder / "qrels.jsonl").open("a") as stream:
        stream.write('{"query": "q0", "doc": "d5", "score": 0.5}\n')
    with pytest.raises(UserError, match=r"qrels\.jsonl, line 25: the score is 0\.5, and scores are whole"):
        build_task(EvaluateTask(task="own", type="retrieval"), [folder])


def test_a_model_whose_vectors_are_nan_gets_no_score(backbone, tasks, tmp_path):
    broken = shutil.copytree(backbone, tmp_path / "model")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises((UserError, ValueError)):
        run(broken, tmp_path, EvaluateTask(task="own", type="sts"), [tasks / "sts"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_broken_vector_makes_no_score_of_a_search(embedder, tasks, tmp_path, monkeypatch, value):
    """mteb's search would rank such a passage first, and its score would look like any other."""
    encode = models.Model._window

    def broken(self, texts, *more):
        vectors = encode(self, texts, *more)
        vectors[len(texts) // 2] = value
        return vectors

    monkeypatch.setattr(models.Model, "_window", broken)
    with pytest.raises(
        UserError, match=r"own test default: 1 of \d+ vectors of model hold NaN or infinities"
    ):
        run(embedder, tmp_path, EvaluateTask(task="own", type="retrieval"), [tasks / "retrieval"])
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "store").rglob("*.vectors.npy"))


def test_what_was_prefixed_is_told_by_a_job_that_was_killed_after_its_last_score(embedder, tasks, tmp_path):
    for _ in range(2):
        encoder = Encoder(models.load(embedder, "m", 64), "rev", PromptPlan("none"))
        task = build_task(EvaluateTask(task="own", type="sts"), [tasks / "sts"])
        evaluate.evaluate(encoder, task, tmp_path)
        assert encoder.prefixed == {"text": ""}


def test_a_folder_that_is_no_model_is_told(tasks, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no model directory"):
        run(tmp_path / "empty", tmp_path, EvaluateTask(task="own", type="sts"), [tasks / "sts"])


@pytest.mark.parametrize("damage", ["{", '{"scores": 3}'])
def test_a_damaged_half_result_is_told_and_evaluated_again(embedder, tasks, tmp_path, caplog, damage):
    encoder = Encoder(models.load(embedder, "m", 64), "rev", PromptPlan("none"))
    task = build_task(EvaluateTask(task="own", type="sts"), [tasks / "sts"])
    file = mteb.ResultCache(tmp_path / "mteb").get_task_result_path("own", encoder.mteb_model_meta)
    file.parent.mkdir(parents=True)
    file.write_text(damage)
    with caplog.at_level(logging.WARNING):
        result, again, _ = evaluate.evaluate(encoder, task, tmp_path)
    assert "damaged" in caplog.text
    assert mteb.TaskResult.from_disk(again).get_score() == pytest.approx(result.get_score(), abs=1e-6)


def two_splits(tasks):
    """A retrieval task that is evaluated on two splits."""
    task = build_task(EvaluateTask(task="own", type="retrieval"), [tasks / "retrieval"])
    task.metadata = task.metadata.model_copy(update={"eval_splits": ["dev", "test"]})
    task.content = {"default": dict.fromkeys(("dev", "test"), task.content["default"]["test"])}
    task._eval_splits = ["dev", "test"]
    return task


def test_the_queries_scores_survive_a_kill_between_splits(embedder, tasks, tmp_path, monkeypatch, caplog):
    encoder = Encoder(models.load(embedder, "m", 64), "rev", PromptPlan("none"))
    calls = []
    encode = encoder.encode

    def leave_in_the_second_split(*args, **named):
        calls.append(named["hf_split"])
        if calls.count("test") == 1:
            raise Interrupted("asked to leave")
        return encode(*args, **named)

    monkeypatch.setattr(encoder, "encode", leave_in_the_second_split)
    with pytest.raises(Interrupted):
        evaluate.evaluate(encoder, two_splits(tasks), tmp_path)
    assert set(calls) == {"dev", "test"}
    _, _, queries = evaluate.evaluate(encoder, two_splits(tasks), tmp_path)
    assert calls.count("dev") == 2  # queries and passages, once: the finished split was kept
    assert queries.groupby("split").size().to_dict() == {"dev": 24, "test": 24}

    next((tmp_path / "queries").glob("*.parquet")).write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        _, _, again = evaluate.evaluate(encoder, two_splits(tasks), tmp_path)
    assert "evaluated from its start" in caplog.text
    assert again.equals(queries)


def test_a_job_told_to_leave_keeps_its_vectors_and_continues(embedder, tasks, tmp_path, monkeypatch):
    """SIGTERM in the second window: a distinct exit, nothing half-made, the first window kept."""
    settings = EvaluateTask(task="own", type="clustering", options={"max_documents_per_cluster": 64})
    windows = []
    encode = models.Model._window

    def leave_at_the_second(self, texts, *more):
        windows.append(len(texts))
        if len(windows) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return encode(self, texts, *more)

    monkeypatch.setattr(models, "WINDOW", 32)
    monkeypatch.setattr(models.Model, "_window", leave_at_the_second)
    with pytest.raises(Interrupted, match="asked to leave"):
        run(embedder, tmp_path, settings, [tasks / "clustering"])
    assert not (tmp_path / "out").exists()
    assert windows == [32, 32]
    run(embedder, tmp_path, settings, [tasks / "clustering"])
    assert sum(windows[2:]) == 90 - 32


def test_nothing_is_made_over_a_task_that_fails(embedder, tasks, tmp_path, capsys):
    file = tmp_path / "tasks.yaml"
    file.write_text(
        f"Good: {{type: sts, path: {tasks / 'sts'}}}\nBad: {{type: sts, path: {tasks / 'clustering'}}}\n"
    )
    words = ["--model", str(embedder), "--task-file", str(file), "--out", str(tmp_path / "out")]
    assert main([*words, "--store", str(tmp_path / "store"), "--threads", "1"]) == 1
    told = capsys.readouterr()
    assert "Bad failed" in told.err
    assert "no column 'sentence1'" in told.err
    assert "none: 1 of 2 tasks are missing" in told.out
    assert "mean_over_tasks" not in told.out
    assert (tmp_path / "out/Good.json").is_file()
    assert not Path(tmp_path / "out/Bad.json").exists()


def test_a_fault_of_ours_is_told_with_where_it_arose(embedder, tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(front, "execute", Mock(side_effect=KeyError("ours")))
    monkeypatch.setattr(front.log, "exception", told := Mock())
    file = tmp_path / "tasks.yaml"
    file.write_text(f"Own: {{type: sts, path: {tasks / 'sts'}}}\n")
    assert main(["--model", str(embedder), "--task-file", str(file), "--out", str(tmp_path / "out")]) == 1
    told.assert_called_once()
    assert "| Own | | | failed |" in (tmp_path / "out/summary.md").read_text()
