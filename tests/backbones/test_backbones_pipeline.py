"""A fetched, a local and a packaged GGUF backbone, each through the rest of the pipeline."""

import json
import os

import pyarrow.parquet as pq
import pytest
import yaml
from backbones_help import build_wheel, copy, snakemake, write_lines
from backbones_hub_server import COMMIT, Hub
from backbones_tiny_gguf import byte_vocabulary, write_gguf

STUDY = {
    "study": {"name": "imported"},
    "backbones": {
        "fetched": {"hub": "org/model", "revision": COMMIT},
        "local": {"path": "mine"},
        "packed": {"pypi": "tiny-lm==1.0", "file": "tiny_lm/*.gguf"},
        "noise": {"untrained": {"like": "packed"}},
    },
    "pairs": [
        {"left": "fetched", "right": "local", "kind": "rlvr"},
        {"left": "packed", "right": "noise", "kind": "control", "embed": False},
    ],
    "backbone_scores": {"backbones": "none"},
    "data": {"datasets": {"own": {"file": "own.jsonl"}}},
    "mining": {"lexical": {}, "negatives": 1, "relative_margin": None},
    "recipes": {
        "full": {
            "batches": {"size": 4, "negatives": 1, "query_tokens": 16, "passage_tokens": 16, "steps": 2},
            "hardware": {"zero_stage": 0},
        }
    },
    "text": {"probes": {"docs": {"file": "texts.jsonl"}}},
    "states": {"tokens": {"count": 100}},
    "hrsa": {"families": ["linear"], "backbone_attention": ["bidirectional"], "floors": []},
    "evaluation": {"max_length": 32, "tasks": {"Own": {"type": "retrieval", "path": "own-task"}}},
}
TRAINED = ("fetched", "local", "packed")


def place_inputs(place, base, corpora):
    """A local model, pairs, a task and probe texts."""
    for file in base.iterdir():
        copy(file, place / "mine" / file.name)
    copy(corpora / "text.jsonl", place / "texts.jsonl")
    texts = [json.loads(line)["text"] for line in (corpora / "text.jsonl").read_text().splitlines()]
    pairs = [{"query": ["", t[:60]], "pos": [t[60:]], "neg": []} for t in texts]
    write_lines(place / "own.jsonl", pairs)
    (place / "own-task").mkdir()
    write_lines(
        place / "own-task" / "corpus.jsonl", [{"id": f"p{i}", "text": t} for i, t in enumerate(texts)]
    )
    write_lines(
        place / "own-task" / "queries.jsonl", [{"id": f"q{i}", "text": texts[i][:50]} for i in range(8)]
    )
    write_lines(
        place / "own-task" / "qrels.jsonl", [{"query": f"q{i}", "doc": f"p{i}", "score": 1} for i in range(8)]
    )
    (place / "study.yaml").write_text(yaml.safe_dump(STUDY))


def final_cka(measures):
    """The CKA of the final states of two models of two blocks."""
    rows = pq.read_table(measures).to_pylist()
    wanted = {"measure": "cka", "statistic": "value", "layer_left": 2, "layer_right": 2, "preset": ""}
    (found,) = (row["value"] for row in rows if wanted.items() <= row.items())
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_imported_backbones_go_all_the_way(base, corpora, tmp_path, monkeypatch):
    """Fetched or imported, then trained, evaluated, extracted and compared, in one run of the workflow."""
    place_inputs(tmp_path, base, corpora)
    model = tmp_path / "tiny.gguf"
    write_gguf(model, byte_vocabulary())
    build_wheel(tmp_path / "index", "tiny_lm", {"tiny_lm/tiny.gguf": model.read_bytes()})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    results = "results/imported"
    targets = [f"{results}/scores/{name}+full+s0/Own.json" for name in TRAINED]
    compared = ("fetched--vs--local", "fetched+full+s0--vs--local+full+s0", "packed--vs--noise")
    targets += [f"{results}/tidy/measures/{name}/docs+bidirectional.linear.parquet" for name in compared]
    targets += [f"{results}/pairs/{pair}.json" for pair in ("fetched--vs--local", "packed--vs--noise")]
    with Hub.of(base) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        done = snakemake(tmp_path, tmp_path / "study.yaml", *targets)
    assert done.returncode == 0, done.stderr[-6000:]
    scores = {
        name: json.loads((tmp_path / target).read_text())["scores"]["test"][0]["ndcg_at_10"]
        for name, target in zip(TRAINED, targets, strict=False)
    }
    # The same weights by two ways make the same embedder; another model makes another.
    assert scores["fetched"] == scores["local"]
    measures = tmp_path / results / "tidy" / "measures"
    same, embedded, noise = (
        final_cka(measures / name / "docs+bidirectional.linear.parquet") for name in compared
    )
    assert same == pytest.approx(1.0, abs=1e-6)
    assert embedded == pytest.approx(1.0, abs=1e-6)
    assert noise < 0.999
