import json
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError
from scipy import stats

from realign.claims.findings import Evidence, Finding
from realign.claims.judge import ESTIMANDS, judge, p_values, settle
from realign.claims.tables import claim_rows, markdown
from realign.results.columns import COLUMNS
from realign.results.statistics import Estimate
from realign.results.tidy import Tidy
from realign.results.verdicts import ALL, FAILS, HOLDS, UNDECIDED, overall
from realign.study.claims import (
    LITERATURE_CLAIMS,
    PAPER_CLAIMS,
    PAPER_TENSIONS,
    Claim,
    Claims,
    ClaimTest,
    Statistic,
)
from realign.study.description import PairEntry
from realign.study.drawing import JudgeClaims
from realign.study.figures import View

PAIR = PairEntry(name="base--vs--tuned", left="base", right="tuned", kind="rlvr")


class Told(Tidy):
    """Tidy results that a test makes up in memory."""

    def __init__(self, **frames):
        for kind, columns in COLUMNS.items():
            frame = pd.DataFrame(frames.get(kind, []), columns=columns)
            self.__dict__[kind] = frame.assign(file="made up")
        self._paths = {kind: [] for kind in COLUMNS}


def scores(gain: float, tasks: int, seeds: int, noise: float, random: np.random.Generator):
    rows = []
    for task in range(tasks):
        level, own = random.uniform(0.3, 0.8), random.normal(0, noise)
        for seed in range(seeds):
            for side, more in (("base", 0.0), ("tuned", gain + own)):
                rows.append({"backbone": side, "recipe": "full", "seed": seed, "preset": "", "benchmark": "b",
                             "task": f"t{task}", "task_type": "x", "metric": "main_score",
                             "value": level + (more + random.normal(0, noise / 2)) / 100})  # fmt: skip
    return rows


def verdict_on(claim: Claim, tidy: Tidy, pairs=(PAIR,), alpha=0.05, corpora=("c",)) -> str:
    asked = JudgeClaims(
        study="s", alpha=alpha, claims={"x": claim}, pairs=pairs, view=View(recipe="full", corpora=corpora)
    )
    return overall(f.verdict for f in judge(asked, tidy)["x"])


def verdicts(gain: float, runs: int = 60, tasks: int = 40, seeds: int = 3, noise: float = 1.0) -> list[str]:
    random = np.random.default_rng(17)
    claim = PAPER_CLAIMS["null_effect"]
    return [verdict_on(claim, Told(scores=scores(gain, tasks, seeds, noise, random))) for _ in range(runs)]


def test_a_real_null_mostly_holds():
    found = verdicts(0.0)
    assert found.count(HOLDS) >= 55
    assert FAILS not in found


def test_a_real_gain_does_not_hold():
    found = verdicts(2.5)
    assert HOLDS not in found
    assert found.count(FAILS) >= 55


def test_a_gain_at_the_margin_is_called_equivalent_no_oftener_than_the_level():
    found = verdicts(1.0, runs=200, tasks=15)
    assert found.count(HOLDS) <= 20  # 5 % of 200 is 10


def test_too_little_data_is_undecided_rather_than_equivalent():
    found = verdicts(0.0, tasks=3, seeds=1, noise=3.0)
    assert found.count(UNDECIDED) >= 55


def measure(value: float, half: float = 0.01, **more):
    told = {
        "stage": "backbone", "pair": PAIR.name, "kind": "rlvr", "corpus": "c", "attention": "bidirectional",
        "preset": "", "measure": "cka", "statistic": "mean_over_layers", "value": value,
        "ci_low": value - half, "ci_high": value + half, "se": half / 2.093, "df": 19.0, "n": 40.0,
    }  # fmt: skip
    return told | more


LEVEL = Claim(says="s", tests=(ClaimTest(statistic="level", measure="cka", rule="above", threshold=0.9),))


@pytest.mark.parametrize(("value", "verdict"), [(0.95, HOLDS), (0.85, FAILS), (0.902, UNDECIDED)])
def test_levels_are_judged_by_their_intervals(value, verdict):
    assert verdict_on(LEVEL, Told(measures=[measure(value)])) == verdict


def test_a_level_without_an_interval_is_undecided():
    assert verdict_on(LEVEL, Told(measures=[measure(0.99, half=np.nan)])) == UNDECIDED


@pytest.mark.parametrize("rule", ["above", "below", "equivalent", "different"])
def test_a_measure_without_a_value_is_undecided(rule):
    test = LEVEL.tests[0].model_copy(update={"rule": rule})
    nothing = measure(np.nan, se=np.nan, df=np.nan)
    assert verdict_on(Claim(says="s", tests=(test,)), Told(measures=[nothing])) == UNDECIDED


def test_what_was_not_measured_is_undecided_and_says_so():
    asked = JudgeClaims(study="s", claims={"x": LEVEL}, pairs=(PAIR,), view=View(corpora=("c",)))
    findings = judge(asked, Told())["x"]
    assert [f.verdict for f in findings] == [UNDECIDED]
    assert findings[0].facts["why"] == "not measured"


def test_both_attention_modes_are_tested_where_both_were_measured():
    rows = [measure(0.95), measure(0.80, attention="causal")]
    assert verdict_on(LEVEL, Told(measures=rows)) == FAILS


@pytest.mark.parametrize(("value", "verdict"), [(0.05, HOLDS), (0.2, FAILS), (0.101, UNDECIDED)])
def test_next_tokens_are_judged_with_causal_attention_alone(value, verdict):
    claim = LITERATURE_CLAIMS["literature_near_in_kl"]
    assert [mode for mode, _ in claim.in_modes("bidirectional", ["causal"])] == [""]
    about = {"measure": "token_kl", "statistic": "left_right", "attention": "causal", "layer_left": np.nan}
    rows = [measure(value, part="", **about), measure(5.0, part="entropy", k=1, **about)]
    assert verdict_on(Claim(says="s", tests=claim.tests[:1]), Told(measures=rows)) == verdict


def test_published_rows_are_left_aside():
    rows = [measure(0.95), measure(0.1, preset="published")]
    assert verdict_on(LEVEL, Told(measures=rows)) == HOLDS


def test_a_level_is_judged_without_sinks_and_says_what_they_add():
    rows = [
        measure(0.99),
        measure(0.05, preset="without_sinks"),
        measure(0.95, corpus="d"),  # another comparison, without a sink
    ]
    asked = JudgeClaims(study="s", claims={"x": LEVEL}, pairs=(PAIR,), view=View(corpora=("c",)))
    (finding,) = judge(asked, Told(measures=rows))["x"]
    assert (finding.verdict, finding.estimate.value) == (FAILS, 0.05)
    assert finding.facts["with_sinks"] == 0.99
    assert finding.facts["sinks_add"] == pytest.approx(0.94)
    asked = asked.model_copy(update={"view": View(corpora=("d",))})
    (finding,) = judge(asked, Told(measures=rows))["x"]
    assert (finding.verdict, "with_sinks" in finding.facts) == (HOLDS, False)


def test_what_sinks_add_is_told_of_the_measures_own_number_alone():
    about = {"measure": "procrustes", "layer_left": 2.0, "layer_right": 2.0}
    entropy, share = {"statistic": "inverse_row_entropy"}, {"statistic": "smear_share"}
    rows = [
        measure(0.44, **about, **entropy),
        measure(0.40, preset="without_sinks", **about, **entropy),
        measure(0.9, **about, **share),
        measure(0.2, preset="without_sinks", **about, **share),
    ]
    claim = Claim(
        says="s", tests=(ClaimTest(statistic="level", measure="procrustes", rule="above", threshold=0.3),)
    )
    asked = JudgeClaims(study="s", claims={"x": claim}, pairs=(PAIR,), view=View(corpora=("c",)))
    (finding,) = judge(asked, Told(measures=rows))["x"]
    assert (finding.estimate.value, finding.facts["with_sinks"]) == (0.40, 0.44)
    assert finding.facts["sinks_add"] == pytest.approx(0.04)


def test_sinks_that_could_not_be_left_out_are_told():
    def sinks_of(*rows):
        asked = JudgeClaims(study="s", claims={"x": LEVEL}, pairs=(PAIR,), view=View(corpora=("c",)))
        return judge(asked, Told(measures=[measure(0.95), *rows]))["x"][0].facts.get("sinks", "")

    count = {"measure": "sinks", "statistic": "count"}
    assert "earlier version" in sinks_of()
    assert sinks_of(measure(0, **count)) == ""
    assert sinks_of(measure(7, **count)) == "7 tokens, which could not be left out"


def test_claims_of_a_preset_read_its_rows():
    rows = [measure(0.99), measure(0.05, preset="without_sinks"), measure(0.8, preset="published")]
    view = View(corpora=("c",), preset="published")
    asked = JudgeClaims(study="s", claims={"x": LEVEL}, pairs=(PAIR,), view=view)
    (finding,) = judge(asked, Told(measures=rows))["x"]
    assert (finding.verdict, finding.estimate.value) == (FAILS, 0.8)


BELOW_FLOOR = Claim(
    says="s", tests=(ClaimTest(statistic="level", stage="embedder", measure="cka", rule="below_floor"),)
)


def of_seeds(pair: str, values: dict[tuple[int, int], float], **more):
    about = {"pair": pair, "stage": "embedder", "half": 0.004} | more
    return [measure(v, seed_left=float(i), seed_right=float(j), **about) for (i, j), v in values.items()]


def trained_thrice(across: float, floor: float, same: float = 0.76):
    """Comparisons of a pair with three seeds; those with the same seed share their batches."""
    own = {(i, i): same for i in range(3)}
    crossed = {(i, j): across + 0.002 * (i - j) for i in range(3) for j in range(3) if i != j}
    seeds = {(0, 1): floor, (0, 2): floor + 0.003, (1, 2): floor - 0.002}
    control = {"kind": "control"}
    return [
        *of_seeds(PAIR.name, own), *of_seeds(f"{PAIR.name}-crossed", crossed, **control),
        *of_seeds("base-seeds", seeds, **control), *of_seeds("tuned-seeds", seeds, **control),
    ]  # fmt: skip


@pytest.mark.parametrize(("across", "verdict"), [(0.45, HOLDS), (0.5, UNDECIDED), (0.55, FAILS)])
def test_a_pair_is_compared_across_seeds_with_the_floor_of_two_seeds(across, verdict):
    """What the pair shares in batches lifts its comparisons of one seed far above the floor, and is no evidence."""
    rows = trained_thrice(across, floor=0.5)
    assert verdict_on(BELOW_FLOOR, Told(measures=rows)) == verdict
    asked = JudgeClaims(study="s", claims={"x": BELOW_FLOOR}, pairs=(PAIR,), view=View(corpora=("c",)))
    (finding,) = judge(asked, Told(measures=rows))["x"]
    assert finding.estimate.value == pytest.approx(across - 0.5 - 0.001 / 3)
    assert finding.facts["across_seeds"] == pytest.approx(across)
    assert finding.facts["floor"] == pytest.approx(0.5 + 0.001 / 3)
    assert finding.facts["seeds"] == 3


def test_a_floor_is_not_held_against_a_pair_that_shares_its_batches():
    rows = [row for row in trained_thrice(0.45, floor=0.5) if "crossed" not in row["pair"]]
    asked = JudgeClaims(study="s", claims={"x": BELOW_FLOOR}, pairs=(PAIR,), view=View(corpora=("c",)))
    (finding,) = judge(asked, Told(measures=rows))["x"]
    assert finding.verdict == UNDECIDED
    assert "not compared across seeds" in finding.facts["why"]


def trajectory(start: float, then: float, end: float):
    embedder = {"seed_left": 0.0, "recipe": "full"}
    return [measure(start), measure(then, stage="checkpoint", step=200.0, **embedder),
            measure(end, stage="embedder", **embedder)]  # fmt: skip


@pytest.mark.parametrize(
    ("way", "verdict"),
    [
        ((0.3, 0.88, 0.9), HOLDS),
        ((0.3, 0.5, 0.9), FAILS),
        ((0.9, 0.905, 0.902), UNDECIDED),
        ((0.9, 0.32, 0.3), FAILS),
        ((0.95, 0.72, 0.7), FAILS),
        ((0.97, 0.975, 0.972), HOLDS),
        ((0.97, 0.8, 0.972), FAILS),
    ],
)
def test_progress_is_the_share_of_a_rise_and_near_the_top_asks_that_nothing_is_lost(way, verdict):
    claim = Claim(says="s", tests=(ClaimTest(statistic="progress", measure="cka", rule="above"),))
    assert verdict_on(claim, Told(measures=trajectory(*way))) == verdict


def test_changes_and_gaps():
    change = Claim(says="s", tests=(ClaimTest(statistic="change", measure="cka", rule="above"),))
    assert verdict_on(change, Told(measures=trajectory(0.3, 0.5, 0.9))) == HOLDS
    assert verdict_on(change, Told(measures=trajectory(0.9, 0.5, 0.3))) == FAILS
    gap = Claim(
        says="s", tests=(ClaimTest(statistic="corpus_gap", measure="cka", rule="equivalent", threshold=0.05),)
    )
    rows = [measure(0.5), measure(0.52, corpus="d")]
    assert verdict_on(gap, Told(measures=rows), corpora=("c", "d")) == HOLDS
    mode = Claim(
        says="s",
        tests=(ClaimTest(statistic="attention_gap", measure="cka", rule="equivalent", threshold=0.05),),
    )
    assert verdict_on(mode, Told(measures=[measure(0.5), measure(0.9, attention="causal")])) == FAILS


def test_readout_is_judged_on_the_last_layer_of_the_asked_split():
    claim = Claim(says="s", tests=(ClaimTest(statistic="readout_gap", rule="equivalent", threshold=0.05),))
    about = {"measure": "probe", "statistic": "accuracy_change", "direction": "right", "split": "test"}

    def rows(value: float, layer: float = 4.0, half: float = 0.01, **more):
        return measure(value, half, layer_left=layer, layer_right=layer, **(about | more))

    accuracy = [rows(0.8, statistic="accuracy", corpus=c, direction="left") for c in "cd"]
    back = [rows(-0.01, direction="back")]
    told = [*accuracy, *back, rows(-0.01), rows(-0.4, layer=1.0), rows(-0.4, split="train")]
    assert verdict_on(claim, Told(measures=told)) == HOLDS
    assert verdict_on(claim, Told(measures=[*accuracy, *back, rows(0.0, half=0.0)])) == UNDECIDED
    lost = [*accuracy, rows(-0.01), rows(-0.3, direction="back")]
    assert verdict_on(claim, Told(measures=lost)) == FAILS
    everywhere = Claim(says="s", tests=(claim.tests[0].model_copy(update={"corpora": "all"}),))
    further = [rows(-0.3, corpus="d", direction=way) for way in ("right", "back")]
    found = [verdict_on(c, Told(measures=[*told, *further]), corpora=("c", "d")) for c in (claim, everywhere)]
    assert found == [HOLDS, FAILS]


def test_tags_and_kinds_select_pairs():
    longer = PAIR.model_copy(update={"name": "base--vs--longer", "right": "longer", "tags": ("prolonged",)})
    sft = PAIR.model_copy(update={"name": "base--vs--sft", "right": "sft", "kind": "sft"})
    asked = JudgeClaims(study="s", claims={}, pairs=(PAIR, longer, sft), view=View(corpora=("c",)))
    evidence = Evidence(asked, Told())

    def selected(**more):
        test = ClaimTest(
            statistic="level", measure="cka", rule="above", attentions=("bidirectional",), **more
        )
        return [f.pair for f in ESTIMANDS[test.statistic](evidence, test)]

    assert selected() == [PAIR.name, longer.name]
    assert selected(tagged=("prolonged",)) == [longer.name]
    assert selected(untagged=("prolonged",)) == [PAIR.name]
    assert selected(kind="sft") == [sft.name]
    assert selected(kind="any") == [PAIR.name, longer.name, sft.name]


def test_holm_corrects_failing_alone_since_all_tests_must_hold():
    test = ClaimTest(statistic="level", measure="cka", rule="above")

    def judged(value: float, others: int) -> Finding:
        many = [Finding("p", "w", test, Estimate(value, 1.0), 0.0)]
        many += [Finding("q", "w", test, Estimate(0.1, 1.0), 0.0) for _ in range(others)]
        settle(many, 0.05)
        return many[0]

    assert judged(2.0, 0).verdict == judged(2.0, 5).verdict == HOLDS
    assert judged(-2.0, 0).verdict == FAILS
    assert judged(-2.0, 5).verdict == UNDECIDED
    assert judged(-2.0, 5).p_fails_holm == pytest.approx(6 * judged(-2.0, 5).p_fails)


def test_a_test_without_anything_to_test_is_undecided():
    """No pair of this study is prolonged, so it cannot show that the basis drifts only if one is."""
    claim = PAPER_CLAIMS["basis_drift_only_if_prolonged"]
    assert verdict_on(claim, Told(measures=[kept_basis(0.7)])) == UNDECIDED


LONGER = PAIR.model_copy(update={"name": "base--vs--longer", "right": "longer", "tags": ("prolonged",)})


def kept_basis(value: float, **more):
    about = {"measure": "basis_kept", "statistic": "value", "layer_left": 4.0, "layer_right": 4.0}
    return measure(value, **(about | more))


@pytest.mark.parametrize(("elsewhere", "verdict"), [(0.2, HOLDS), (0.83, FAILS)])
def test_the_basis_has_to_drift_on_every_corpus(elsewhere, verdict):
    """On MMLU-Pro the paper's own prolonged pair has hardly drifted."""
    rows = [kept_basis(0.95, corpus=c) for c in "cd"]
    rows += [kept_basis(v, corpus=c, pair=LONGER.name) for c, v in (("c", 0.2), ("d", elsewhere))]
    claim = PAPER_CLAIMS["basis_drift_only_if_prolonged"]
    assert verdict_on(claim, Told(measures=rows), pairs=(PAIR, LONGER), corpora=("c", "d")) == verdict


@pytest.mark.parametrize(("end", "verdict"), [(0.9, HOLDS), (0.19, FAILS)])
def test_a_basis_is_turned_back_only_if_most_of_it_is_kept_in_the_end(end, verdict):
    rows = [
        kept_basis(0.161, pair=LONGER.name),
        kept_basis(end, pair=LONGER.name, stage="embedder", seed_left=0.0, seed_right=0.0),
    ]
    claim = PAPER_CLAIMS["basis_drift_reversed"]
    assert verdict_on(claim, Told(measures=rows), pairs=(LONGER,)) == verdict


def sample(texts: float, tokens: float, **more):
    about = {"measure": "sample", "ci_low": np.nan, "ci_high": np.nan, "se": np.nan, "df": np.nan} | more
    return [measure(v, statistic=s, **about) for s, v in (("texts", texts), ("tokens", tokens))]


def test_corpora_of_other_sizes_are_not_compared_by_what_depends_on_the_size():
    """The entropy of an unmoved basis is 0.86 on 57 texts and 0.98 on 1,400 at width 64."""

    def judged(name: str, texts: float) -> Finding:
        layer = {"layer_left": 4.0, "layer_right": 4.0, "measure": name}
        layer["statistic"] = "value" if name == "basis_kept" else "inverse_row_entropy"
        rows = [measure(0.88, **layer), measure(0.98, corpus="d", **layer)]
        tidy = Told(measures=[*rows, *sample(57, 50_000), *sample(texts, 50_000, corpus="d")])
        tidy.measures["file"] = tidy.measures["corpus"]
        test = ClaimTest(statistic="corpus_gap", measure=name, rule="equivalent", threshold=0.05)
        asked = JudgeClaims(
            study="s",
            claims={"x": Claim(says="s", tests=(test,))},
            pairs=(PAIR,),
            view=View(corpora=("c", "d")),
        )
        return judge(asked, tidy)["x"][0]

    assert (judged("procrustes", 57).verdict, judged("basis_kept", 1400).verdict) == (FAILS, FAILS)
    unlike = judged("procrustes", 1400)
    assert unlike.verdict == UNDECIDED
    assert "57 and 1,400 texts" in unlike.facts["why"]


def test_a_failure_in_another_attention_mode_is_a_claim_of_its_own():
    claim = Claim(says="It stays.", tests=(*LEVEL.tests, ClaimTest(statistic="gain", rule="above")))
    stated = dict(claim.in_modes("bidirectional", ["causal"]))
    assert [t.attentions for t in stated[""].tests] == [("bidirectional",), ("bidirectional", "causal")]
    assert [t.attentions for t in stated["causal"].tests] == [("causal",)]
    assert "causal" in stated["causal"].says
    rows = Told(measures=[measure(0.95), measure(0.80, attention="causal")])
    only = Claim(says="s", tests=stated[""].tests[:1])
    assert (verdict_on(only, rows), verdict_on(stated["causal"], rows)) == (HOLDS, FAILS)
    alone = Claim(says="s", tests=(ClaimTest(**LEVEL.tests[0].as_slice() | {"attentions": ("causal",)}),))
    assert dict(alone.in_modes("bidirectional", ["causal"])) == {"": alone}


def test_weights_have_no_attention_mode_to_be_tested_in_again():
    claim = LITERATURE_CLAIMS["literature_update_sparse"]
    assert [mode for mode, _ in claim.in_modes("bidirectional", ["causal"])] == [""]


def test_an_undecided_level_promises_no_value_that_its_measure_cannot_take():
    asked = JudgeClaims(study="s", claims={"x": LEVEL}, pairs=(PAIR,), view=View(corpora=("c",)))
    (found,) = judge(asked, Told(measures=[measure(0.91, half=0.2)]))["x"]
    assert "holds_from" not in found.facts  # it would be 1.14
    assert f"this design decides from {found.facts['fails_from']:.3f} down" in markdown(asked, {"x": [found]})


def test_an_interval_cut_off_at_one_is_not_taken_for_precision():
    """Old results hold no errors; the end that is not cut off tells the error, and two cut ends tell none."""
    old = {"se": np.nan, "df": np.nan}
    asked = JudgeClaims(study="s", claims={"x": LEVEL}, pairs=(PAIR,), view=View(corpora=("c",)))
    cut = judge(asked, Told(measures=[measure(0.97, **old) | {"ci_low": 0.87, "ci_high": 1.0}]))["x"][0]
    assert cut.verdict == UNDECIDED
    assert cut.p_holds == pytest.approx(0.085, abs=0.001)
    assert "without errors" in cut.facts["errors"]
    wide = judge(asked, Told(measures=[measure(0.97, **old) | {"ci_low": 0.0, "ci_high": 1.0}]))["x"][0]
    assert wide.p_holds == wide.p_fails == 1.0


def test_levels_are_judged_by_t_with_the_errors_own_degrees_of_freedom():
    asked = JudgeClaims(study="s", claims={"x": LEVEL}, pairs=(PAIR,), view=View(corpora=("c",)))
    row = measure(0.95) | {"ci_high": 1.0, "se": 0.03, "df": 4.0}
    (found,) = judge(asked, Told(measures=[row]))["x"]
    assert found.p_holds == pytest.approx(stats.t(4).sf(0.05 / 0.03))


def test_the_null_effect_is_judged_for_both_estimands():
    """A gain that is the same for each seed and differs by task: known on these tasks, unknown on others."""
    tidy = Told(scores=scores(0.67, 12, 3, 0.0, np.random.default_rng(0)))
    own = tidy.scores["backbone"] == "tuned"
    tidy.scores.loc[own, "value"] += 0.01 * tidy.scores["task"].str[1:].astype(int).sub(5.5)[own]
    test = ClaimTest(statistic="gain", rule="equivalent", threshold=0.25)
    seeds = test.model_copy(update={"over": "seeds"})
    scatter = np.random.default_rng(1).normal(0, 1e-4, len(tidy.scores))
    tidy.scores["value"] += scatter
    assert verdict_on(Claim(says="s", tests=(test,)), tidy) == UNDECIDED
    assert verdict_on(Claim(says="s", tests=(seeds,)), tidy) == FAILS


@pytest.mark.parametrize("rule", ["equivalent", "above"])
def test_an_undecided_test_says_what_its_design_could_have_decided(rule):
    test = LEVEL.tests[0].model_copy(update={"rule": rule})
    asked = JudgeClaims(study="s", claims={"x": Claim(says="s", tests=(test,))}, pairs=(PAIR,),
                        view=View(corpora=("c",)))  # fmt: skip
    (undecided,), (decided,) = (
        judge(asked, Told(measures=[measure(value, half=0.05)]))["x"] for value in (0.91, 0.2)
    )
    assert undecided.verdict == UNDECIDED
    assert undecided.facts["fails_from"] == pytest.approx(
        *((0.98, 0.02) if rule == "equivalent" else (0.84, 0.01))
    )
    assert "this design" in markdown(asked, {"x": [undecided]})
    assert "fails_from" not in decided.facts


def test_one_task_says_nothing_of_other_tasks():
    rows = scores(0.0, tasks=1, seeds=5, noise=0.1, random=np.random.default_rng(0))
    assert verdict_on(PAPER_CLAIMS["null_effect"], Told(scores=rows)) == UNDECIDED
    assert verdict_on(PAPER_CLAIMS["null_effect_on_these_tasks"], Told(scores=rows)) == HOLDS


def test_a_gain_stands_beside_random_weights_and_its_most_influential_task():
    rows = scores(0.0, tasks=6, seeds=3, noise=0.1, random=np.random.default_rng(0))
    for row in rows:
        row["value"] += 0.3 * (row["backbone"] == "tuned" and row["task"] == "t4")
    trained = [row | {"backbone": "noise", "value": 0.7} for row in rows if row["backbone"] == "base"]
    random = [row | {"backbone": "noise", "recipe": None, "seed": np.nan, "value": 0.25}
              for row in rows if row["seed"] == 0 and row["backbone"] == "base"]  # fmt: skip
    floor = PairEntry(name="base--vs--noise", left="base", right="noise", kind="control")
    copy = PairEntry(name="base--vs--copy", left="base", right="copy", kind="control")  # a converted copy
    copied = [row | {"backbone": "copy", "value": 0.6} for row in random]
    asked = JudgeClaims(study="s", claims={"x": PAPER_CLAIMS["null_effect"]}, pairs=(PAIR, floor, copy),
                        untrained=("noise",), view=View(recipe="full"))  # fmt: skip
    (found,) = judge(asked, Told(scores=[*rows, *random, *trained, *copied]))["x"]
    assert found.facts["score_of_random_weights"] == pytest.approx(25.0)
    assert found.facts["task_that_moves_it_most"] == "t4"
    assert found.facts["gain_without_it"] == pytest.approx(0.0, abs=0.2)


def test_no_p_value_is_printed_that_its_degrees_of_freedom_cannot_bear(tmp_path):
    asked = JudgeClaims(study="s", claims={"x": LEVEL}, pairs=(PAIR,), view=View(corpora=("c",)))
    judged = judge(asked, Told(measures=[measure(0.99, half=1e-4)]))
    row = list(claim_rows(asked, "x", judged["x"]))[1]
    assert json.loads(row["evidence"])["p"] == 2.0**-20
    assert "< 9.5e-07" in markdown(asked, judged)


def test_every_statistic_that_a_claim_can_name_is_estimated():
    assert set(ESTIMANDS) == set(get_args(Statistic))


def test_no_test_at_all_is_undecided():
    assert overall([]) == UNDECIDED


def test_different_never_fails():
    assert p_values(Estimate(0.0, 0.01), "different", 0.0) == (pytest.approx(1.0), 1.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"statistic": "level", "rule": "above"},
        {"statistic": "gain", "rule": "equivalent"},
        {"statistic": "level", "measure": "cka", "rule": "below_floor"},
        {"statistic": "level", "measure": "cka", "rule": "abov"},
    ],
)
def test_impossible_tests_are_refused(bad):
    with pytest.raises(ValidationError):
        ClaimTest(**bad)


def test_a_claim_of_ones_own_joins_and_replaces():
    own = Claims(own={"null_effect": LEVEL, "mine": LEVEL})
    assert own.all()["null_effect"] is own.own["null_effect"]
    assert set(own.all()) == {*PAPER_CLAIMS, "mine"}
    assert set(Claims(paper=False, tensions=True).all()) == set(PAPER_TENSIONS)
    assert set(Claims(paper=False, literature=True).all()) == set(LITERATURE_CLAIMS)


def test_the_claims_of_the_manual_are_judged():
    """The example of docs/claims.md, read as a study would read it, on a true gain of 2.5 points."""
    manual = (Path(__file__).parents[2] / "docs/claims.md").read_text(encoding="utf-8")
    example = yaml.safe_load(manual.split("```yaml\n")[1].split("```")[0])
    given = Claims.model_validate(example["claims"])
    tidy = Told(scores=scores(2.5, 40, 3, 1.0, np.random.default_rng(4)))
    tidy.scores["benchmark"] = "MTEB(Code, v1)"
    asked = JudgeClaims(
        study="s", claims=given.all(), pairs=(PAIR,), view=View(recipe="full", corpora=("c",))
    )
    judged = judge(asked, tidy)
    assert overall(f.verdict for f in judged["code_gains"]) == HOLDS
    assert overall(f.verdict for f in judged["null_effect"]) == FAILS
    assert judged["null_effect"][0].threshold == 0.5


def test_claims_on_sft_backbones_leave_out_pairs_that_were_not_published():
    claims = [*PAPER_CLAIMS.values(), *PAPER_TENSIONS.values(), *LITERATURE_CLAIMS.values()]
    tests = [t for claim in claims for t in claim.tests if t.kind == "sft" and t.statistic != "gain"]
    assert tests
    assert all(t.untagged == ("unpublished",) for t in tests)


def test_rows_have_the_tidy_columns_and_their_evidence(drawn):
    frame = pq.read_table(drawn / "tidy/claims.parquet").to_pandas()
    assert list(frame) == COLUMNS["claims"]
    assert set(frame["verdict"]) <= {HOLDS, FAILS, UNDECIDED}
    causal = {name for name in frame["claim"] if name.endswith("_causal")}
    assert set(frame["claim"]) - causal == {*PAPER_CLAIMS, *PAPER_TENSIONS}
    assert causal == {
        "basis_drift_only_if_prolonged_causal", "global_geometry_preserved_causal",
        "linear_readout_preserved_causal", "local_geometry_reorganised_causal", "sft_restructures_causal",
        "tension_damage_on_any_text_causal", "tension_nearly_a_permutation_causal",
    }  # fmt: skip
    tests = frame[frame["pair"] != ALL]
    for evidence in map(json.loads, tests["evidence"]):
        assert {"rule", "p", "p_opposite_holm", "df", "files"} <= set(evidence)
    with_files = [json.loads(e)["files"] for e in tests["evidence"]]
    assert all(f.startswith(("measures/", "scores/")) for files in with_files for f in files)
    assert any(with_files)


def test_the_synthetic_sft_pair_restructures(drawn):
    frame = pq.read_table(drawn / "tidy/claims.parquet").to_pandas()
    whole = frame[frame["pair"] == ALL].set_index("claim")["verdict"]
    assert whole["tension_nearly_a_permutation"] == FAILS
    assert whole["basis_drift_reversed"] == HOLDS


def test_json_holds_no_infinity(drawn):
    json.loads((drawn / "claims/claims.json").read_text(), parse_constant=lambda c: pytest.fail(c))


def test_claim_rows_count_verdicts():
    asked = JudgeClaims(study="s", claims={"x": LEVEL}, pairs=(PAIR,), view=View(corpora=("c",)))
    rows = list(claim_rows(asked, "x", judge(asked, Told(measures=[measure(0.95)]))["x"]))
    assert rows[0]["pair"] == ALL
    assert json.loads(rows[0]["evidence"])[HOLDS] == 1


def answered(model: str, backbone: str, values: np.ndarray, seed: float = np.nan):
    about = {"embedder": model, "backbone": backbone, "recipe": "full" if "+" in model else None, "seed": seed,
             "step": np.nan, "preset": "", "task": "Search", "task_type": "Retrieval", "split": "test",
             "subset": "default", "metric": "ndcg_at_10"}  # fmt: skip
    return [{**about, "query": f"q{i}", "value": value} for i, value in enumerate(values)]


@pytest.mark.parametrize(("raised", "verdict"), [(0.05, "holds"), (-0.05, "fails"), (0.0, "undecided")])
def test_a_lift_is_judged_for_both_sides_over_the_queries_with_seeds_averaged(raised, verdict):
    random = np.random.default_rng(3)
    rows, lifts = [], {}
    for backbone in ("base", "tuned"):
        hard = random.uniform(0.2, 0.6, 120)
        noise = random.normal(0, 0.1, (2, 120))
        trained = hard + raised + noise - noise.mean()
        rows += answered(backbone, backbone, hard)
        for seed in (0, 1):
            rows += answered(f"{backbone}+full+s{seed}", backbone, trained[seed], seed)
        lifts[backbone] = 100 * (trained.mean(axis=0) - hard)
    claim = Claim(says="x", tests=(ClaimTest(statistic="lift", rule="above", kind="any"),))
    asked = JudgeClaims(
        study="s", alpha=0.05, claims={"x": claim}, pairs=(PAIR,), view=View(recipe="full", corpora=("c",))
    )
    found = judge(asked, Told(queries=rows))["x"]
    assert [(f.pair, f.verdict) for f in found] == [("base", verdict), ("tuned", verdict)]
    for finding in found:
        expected = stats.ttest_1samp(lifts[finding.pair], 0).confidence_interval()
        assert finding.estimate.interval() == pytest.approx((expected.low, expected.high))


def test_a_lift_without_the_untrained_backbone_is_not_measured():
    rows = answered("base+full+s0", "base", np.full(5, 0.5), 0)
    claim = Claim(says="x", tests=(ClaimTest(statistic="lift", rule="above", kind="any"),))
    asked = JudgeClaims(
        study="s", alpha=0.05, claims={"x": claim}, pairs=(PAIR,), view=View(recipe="full", corpora=("c",))
    )
    assert {f.facts["why"] for f in judge(asked, Told(queries=rows))["x"]} == {"not measured"}


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ("ckaa", "'ckaa' is no measure \\(did you mean 'cka'\\?\\)"),
        ("svcca", "'svcca' has no interval"),
        ("isotropy", "'isotropy' has no interval between two models"),
    ],
)
def test_a_claim_names_a_measure_that_can_be_judged(measure, message):
    with pytest.raises(ValidationError, match=message):
        ClaimTest(statistic="level", measure=measure, rule="above")


@pytest.mark.parametrize(
    ("name", "statistic"), [("mutual_knn", "mean_over_layers"), ("rsa", "spearman"), ("cka_rbf", "value")]
)
def test_measures_of_every_family_can_be_claimed(name, statistic):
    test = ClaimTest(statistic="level", measure=name, rule="above", threshold=0.9)
    layer = {} if statistic == "mean_over_layers" else {"layer_left": 1.0, "layer_right": 1.0}
    rows = [measure(0.95, measure=name, statistic=statistic, k=10.0, **layer)]
    assert verdict_on(Claim(says="s", tests=(test,)), Told(measures=rows)) == HOLDS
