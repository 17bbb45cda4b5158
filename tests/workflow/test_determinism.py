"""Two runs of one study give the same numbers: the embedded study made small, run twice from nothing."""

import pandas as pd
import pytest
import yaml

from micro_study import LOCAL, ROOT, Place
from realign.tools.diff import INCIDENTAL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def small_study():
    """Every kind of stage of the embedded study, a few steps of each."""
    study = yaml.safe_load((ROOT / "config.yaml").read_text())
    study["text"] = {
        "train_packages": ["numpy"], "heldout_packages": ["networkx", "pyparsing"], "pretrain_mb": 0.3,
        "pairs": 60, "queries": 20, "corpus": 40, "items": 40, "topics": 4,
    }  # fmt: skip
    for name, made in (("base", "pretrain"), ("rlvr", "rlvr"), ("sft", "sft")):
        study["backbones"][name][made] |= {"optimisation": {"steps": 3}}
    study["data"]["datasets"] = {"summaries": {"embedded": "summary-description"}}
    study["recipes"] = {"full": study["recipes"]["full"] | {"checkpoints": [2]}}
    study["recipes"]["full"]["batches"] |= {"size": 8, "steps": 4}
    study["recipes"]["full"]["validation"] = {"samples": 8, "every": 2}
    study["states"]["tokens"]["count"] = 400
    study["hrsa"] |= {"backbone_attention": ["causal"], "neighbours": {"k": [5]}}
    tasks = study["evaluation"]["tasks"]
    study["evaluation"]["tasks"] = {n: tasks[n] for n in ("DocsRetrieval", "TopicClassification")}
    return study


def numbers(place):
    """What a run measured, by file: tidy tables and the figures' numbers."""
    found = {}
    for path in sorted(place.results.glob("tidy/**/*.parquet")):
        table = pd.read_parquet(path)
        if "metric" in table:
            table = table[~table["metric"].isin(INCIDENTAL)]
        found[path.relative_to(place.results)] = table.reset_index(drop=True)
    for path in sorted(place.results.glob("figures/*.csv")):
        found[path.relative_to(place.results)] = path.read_bytes()
    return found


def test_two_runs_from_nothing_give_the_same_numbers_to_the_last_bit(tmp_path):
    runs = []
    for name in ("one", "two"):
        place = Place(tmp_path / name, small_study())
        place.run(*LOCAL)
        runs.append(numbers(place))
    one, two = runs
    assert list(one) == list(two)
    kinds = {path.parts[1] for path in one if path.parts[0] == "tidy"}
    assert {"measures", "scores", "queries", "training", "mining", "backbones", "claims.parquet"} <= kinds
    assert any(path.suffix == ".csv" for path in one)
    for path, found in one.items():
        if path.suffix == ".csv":
            assert found == two[path], path
        else:
            pd.testing.assert_frame_equal(found, two[path], check_exact=True, obj=str(path))
