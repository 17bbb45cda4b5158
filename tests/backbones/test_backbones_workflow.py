"""The rules, by a real run of a micro study: every local source ends in the same layout and is scored."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from backbones_help import MICRO, copy, snakemake


def study(place: Path, base: Path) -> Path:
    tuning = {"optimisation": {"steps": 2}, "hardware": MICRO["hardware"]}
    rollouts = {"group": 2, "max_new_tokens": 4}
    content = {
        "study": {"name": "micro"},
        "backbones": {
            "base": {"pretrain": MICRO | tuning},
            "sft": {"sft": {"from": "base", "batch": 2, "checkpoints": [1], **tuning}},
            "rlvr": {"rlvr": {"from": "base", "batch": 2, "rollouts": rollouts, **tuning}},
            "noise": {"untrained": {"like": "base"}},
            "local": {"path": str(base)},
        },
        "pairs": [{"left": "base", "right": "rlvr", "kind": "rlvr", "tags": ["prolonged"]}],
        "backbone_scores": {"backbones": "paired", "problem_count": 4, "samples": 2, "text_count": 4,
                            "held_out": 0.2, "max_new_tokens": 4, "resamples": 100},
    }  # fmt: skip
    path = place / "micro.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def place_text(place: Path, corpora: Path) -> None:
    """What the text rules would have made, so that this test is about backbones alone."""
    for name in ("pretrain", "train", "heldout"):
        copy(corpora / f"{name}.jsonl", place / "problems" / f"{name}.jsonl")
    for name in ("pretrain", "probes/reasoning", "probes/docs"):
        copy(corpora / "text.jsonl", place / f"{name}.jsonl")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_micro_study_s_backbones(base, corpora, tmp_path):
    config = study(tmp_path, base)
    results = "results/micro"
    place_text(tmp_path / results / "text", corpora)
    targets = [
        f"{results}/tidy/backbones/{name}.parquet" for name in ("base", "sft", "sft-step1", "rlvr", "noise")
    ]
    targets += [f"{results}/pairs/base--vs--rlvr.json", f"{results}/backbones/local/model"]
    done = snakemake(tmp_path, config, *targets)
    assert done.returncode == 0, done.stderr[-4000:]
    for name in ("base", "sft", "sft-step1", "rlvr", "noise", "local"):
        place = tmp_path / results / "backbones" / name
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
            p.name for p in (place / "model").iterdir()
        }
        assert (place / "model.manifest.json").is_file()
    steps = (tmp_path / results / "backbones" / "sft-step1" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in steps] == [1]
    assert "step 1 of 1" in (tmp_path / results / "logs" / "sft" / "sft-step1.log").read_text()
    rows = pq.read_table(tmp_path / targets[3]).to_pylist()
    assert {(r["study"], r["backbone"], r["kind"], r["base"]) for r in rows} == {
        ("micro", "rlvr", "rlvr", "base")
    }
    assert {"pass_rate", "pass_rate_gain", "perplexity_ratio", "parameters"} <= {r["metric"] for r in rows}
    pair = json.loads((tmp_path / results / "pairs" / "base--vs--rlvr.json").read_text())
    assert (pair["kind"], pair["tags"], pair["same_ids"]) == ("rlvr", ["prolonged"], True)
    again = snakemake(tmp_path, config, "-n", *targets)
    assert "Nothing to be done" in again.stdout + again.stderr
