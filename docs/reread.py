"""docs/reread.md: what the rules for verdicts say of the paper's printed numbers. `python docs/reread.py --write | --check`.

The numbers come from src/realign/results/reference, the rules from `realign.results.statistics` and
`realign.study.claims`. A claim is confirmed if every reading of the numbers satisfies it, contradicted if none does, and
hangs on a choice if some do. Where the numbers are not printed it can't be told.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from realign.results.controls import chance_overlap
from realign.results.published import FOLDER
from realign.results.statistics import Estimate, holm, random_rotation_entropy
from realign.study.benchmarks import benchmarks
from realign.study.claims import HALF, PAPER_CLAIMS, PAPER_TENSIONS

PAGE = Path(__file__).with_name("reread.md")
CONFIRMED, HANGS, CONTRADICTED, UNKNOWN = "confirmed", "hangs on a choice", "contradicted", "can't be told"
ALPHA = 0.05
PROLONGED = "nvidia/Nemotron-Research-Reasoning-Qwen-1.5B"
UNPUBLISHED = "Qwen/Qwen3-0.6B"  # an SFT pair of embedders alone
WIDTHS = {"0.5B": 896, "0.6B": 1024, "1.5B": 1536, "4B": 2560, "7B": 3584}  # hidden sizes by model size
CLOSEST = 2.5  # points: task differences of the two closest models on the public board of MTEB(eng, v2)
CORPORA = {"reasoning": "reasoning texts", "mmlu-pro": "MMLU-Pro"}


def stands(readings: Iterable[bool]) -> str:
    """Whether a claim is true by all readings of the numbers, by some, or by none."""
    given = {bool(reading) for reading in readings}
    return HANGS if len(given) == 2 else CONFIRMED if given == {True} else CONTRADICTED


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, as print has it."""
    return f"{value:+.{digits}f}".replace("-", "−")


def short(name: str) -> str:
    """A model without its owner."""
    return name.rsplit("/", 1)[-1]


def pair_of(row: pd.Series) -> str:
    """A pair in words."""
    return f"{short(row['left'])} / {short(row['right'])}"


def width_of(name: str) -> int:
    """The hidden size of a model, from the size in its name."""
    return next(width for size, width in WIDTHS.items() if size.lower() in name.lower())


def seeds_estimates(rows: pd.DataFrame, is_sd: bool) -> list[Estimate]:
    """The gains with the error over three seeds: ± is their standard deviation, or already the mean's error."""
    errors = rows["sd"] / np.sqrt(rows["seeds"]) if is_sd else rows["sd"]
    return [Estimate(g, e, s - 1) for g, e, s in zip(rows["gain"], errors, rows["seeds"], strict=True)]


def verdicts(estimates: list[Estimate], margin: float) -> list[str]:
    """What a claim of equivalence on these tasks says of each: p-values for failing take Holm's correction."""
    fails = holm([e.p_beyond(margin) for e in estimates])
    return [
        "holds" if e.p_equivalent(margin) < ALPHA else "fails" if p < ALPHA else "undecided"
        for e, p in zip(estimates, fails, strict=True)
    ]


def scores() -> tuple[list[list[str]], str]:
    """Table 1."""
    rows = pd.read_csv(FOLDER / "benchmarks.csv")
    rlvr = rows[rows["kind"] == "rlvr"].reset_index(drop=True)
    wide, narrow = (
        claim.tests[0].threshold
        for claim in (PAPER_CLAIMS["null_effect_on_these_tasks"], PAPER_TENSIONS["tension_scores_identical"])
    )
    found = {
        (margin, is_sd): verdicts(seeds_estimates(rlvr, is_sd), margin)
        for margin in (wide, narrow)
        for is_sd in (True, False)
    }
    tasks = rlvr["benchmark"].map(lambda name: len(benchmarks()[name])).to_numpy()
    # |gain| + t σ / √T < margin, with σ the standard deviation of a pair's task differences
    bearable = (wide - rlvr["gain"].abs()) * np.sqrt(tasks) / stdtrit(tasks - 1, 1 - ALPHA)
    differ = holm([e.p_differs() for e in seeds_estimates(rlvr, is_sd=True)])
    shown = [
        [
            pair_of(row), row["benchmark"], f"{signed(row['gain'])} ± {row['sd']:.2f}",
            found[wide, True][i], both(found[narrow, True][i], found[narrow, False][i]),
            "yes" if differ[i] < ALPHA else "no", f"{bearable[i]:.1f}",
        ]
        for i, row in rlvr.iterrows()
    ]  # fmt: skip
    body = table(
        [
            "pair",
            "benchmark",
            "gain",
            f"within ± {wide:g}",
            f"within ± {narrow:g}",
            "other than 0",
            "bearable spread",
        ],
        shown,
    )
    fail = {way: found[narrow, way].count("fails") for way in (True, False)}
    sft = rows[rows["kind"] == "sft"]
    cost = [
        b for b, e in zip(sft["benchmark"], seeds_estimates(sft, True), strict=True) if e.p_below(0) < ALPHA
    ]
    gain = [
        b for b, e in zip(sft["benchmark"], seeds_estimates(sft, True), strict=True) if e.p_above(0) < ALPHA
    ]
    summary = [
        ["Scores are equivalent on these very tasks, within a point", "1",
         stands(verdict == "holds" for way in (True, False) for verdict in found[wide, way]), "All 12 gains of RLVR pairs hold, whatever ± means."],
        ["Scores are identical, within a quarter of a point", "1",
         stands(not fail[way] for way in (True, False)),
         f"If ± is the standard deviation over seeds, {fail[True]} of 12 fail; if it is the mean's error, {fail[False]}."],
        ["Scores are equivalent on other tasks like these", "1", UNKNOWN,
         f"Scores by task are not published. The claim bears a spread of {bearable.min():.1f} points between tasks; "
         f"the closest two models of a public board have {CLOSEST}."],
        ["SFT costs its embedder scores", "1", stands(benchmark in cost for benchmark in sft["benchmark"]),
         f"It loses on {listed(cost)} and gains on {listed(gain)}; one pair, of a model that saw more than SFT."],
    ]  # fmt: skip
    text = f"""## Scores (Table 1)

The paper prints a mean and a ± over three seeds. It doesn't say whether ± is a standard deviation or an error of the mean;
where the two lead to different verdicts both stand in the table. "Bearable spread" is the standard deviation of a
pair's task differences up to which the gain would still be equivalent to none on other tasks like these, within ± {wide:g} point.

{body}

"Other than 0" takes Holm's correction over the {len(rlvr)} gains: {sum(p < ALPHA for p in differ)} of them differ from zero.
Table 1 shows a null effect within a point, and not in the strict sense.
"""
    return summary, text


def both(one: str, other: str) -> str:
    """Two verdicts, or one where they agree."""
    return one if one == other else f"{one} or {other}"


def listed(names: list[str]) -> str:
    """Names in a row."""
    return " and ".join(names) or "none"


def rotations() -> tuple[list[list[str]], str]:
    """Tables 3, 12 and 13."""
    rows = pd.read_csv(FOLDER / "rotation.csv")
    rows = rows[rows["table"] != 3]
    wide = rows.pivot(
        index=["left", "right", "kind"], columns=["stage", "corpus"], values="value"
    ).reset_index()
    shown = []
    for _, row in wide.iterrows():
        width = width_of(row["left"].iloc[0])
        cells = [
            [
                f"{row[stage, corpus]:.3f}" if row[stage, corpus] == row[stage, corpus] else "–"
                for corpus in CORPORA
            ]
            for stage in ("backbone", "embedder")
        ]
        spread = row["backbone", "reasoning"]
        shown.append([
            f"{short(row['left'].iloc[0])} / {short(row['right'].iloc[0])}", row["kind"].iloc[0], *cells[0], *cells[1],
            f"{random_rotation_entropy(width):.3f}", f"{width ** (1 - spread):,.0f}" if spread == spread else "–",
        ])  # fmt: skip
    body = table(
        ["pair", "kind", *(f"backbones, {c}" for c in CORPORA.values()), *(f"embedders, {c}" for c in CORPORA.values()),
         "random rotation", "dimensions a row"],
        shown,
    )  # fmt: skip
    rlvr = rows[rows["kind"] == "rlvr"]
    gaps = {}
    for corpus in CORPORA:
        own = rlvr[(rlvr["stage"] == "backbone") & (rlvr["corpus"] == corpus)]
        drifted = own["right"] == PROLONGED
        gaps[corpus] = (own[drifted]["value"].max(), own[~drifted]["value"].min())
    low, high = max(g[0] for g in gaps.values()), min(g[1] for g in gaps.values())
    changes = rlvr.pivot(index=["right", "corpus"], columns="stage", values="value").dropna().reset_index()
    changes["rise"] = changes["embedder"] - changes["backbone"]
    prolonged = changes[changes["right"] == PROLONGED]
    others = changes[changes["right"] != PROLONGED]
    rising = {c: f"{(own['rise'] > 0).sum()} of {len(own)}" for c, own in others.groupby("corpus")}
    sft = rows[(rows["kind"] == "sft") & (rows["right"] != UNPUBLISHED)]
    value = {(r.stage, r.corpus): r.value for r in sft.itertuples()}
    near = rows[(rows["right"] == PROLONGED) & (rows["stage"] == "backbone")].set_index("corpus")["value"]
    permutation = PAPER_TENSIONS["tension_nearly_a_permutation"].tests[0].threshold
    summary = [
        ["The basis drifts under prolonged RLVR alone", "3, 12",
         stands([*(a < b for a, b in gaps.values()), low < high]),
         f"Any threshold from {gaps['reasoning'][0]:.2f} to {gaps['reasoning'][1]:.2f} says so on reasoning texts, and "
         f"from {gaps['mmlu-pro'][0]:.2f} to {gaps['mmlu-pro'][1]:.2f} on MMLU-Pro; no threshold does on both. One pair is prolonged."],
        ["Contrastive training turns the drifted basis back", "3, 12, 13",
         stands(prolonged["rise"] > 0),
         f"The value rises by {listed([f'{r:+.2f}' for r in prolonged['rise']])}. It is one pair, without an error."],
        ["Contrastive training realigns the basis of RLVR pairs in general", "12, 13",
         stands(others["rise"] > 0), f"Beside the prolonged pair {rising['reasoning']} rise on reasoning texts, {rising['mmlu-pro']} on MMLU-Pro."],
        ["After prolonged RLVR the rotation is nearly a permutation", "3, 12", stands(near > permutation),
         f"{near['reasoning']:.2f} on reasoning texts, near a random rotation's {random_rotation_entropy(1536):.2f}; "
         f"{near['mmlu-pro']:.2f} on MMLU-Pro."],
        ["SFT destroys the basis", "3, 12, 13", stands(v < HALF for v in value.values()),
         f"Backbones: {value['backbone', 'reasoning']:.2f} and {value['backbone', 'mmlu-pro']:.2f}. Embedders: "
         f"{value['embedder', 'reasoning']:.2f} on reasoning texts and {value['embedder', 'mmlu-pro']:.2f} on MMLU-Pro."],
    ]  # fmt: skip
    text = f"""## The basis (Tables 3, 12 and 13)

Inverse row entropy of the best rotation, as printed. A random rotation of that width has the value in the last column but
one. "Dimensions a row" is over how many dimensions a row of the backbones' rotation spreads on reasoning texts,
width^(1 − value). The widths are those of the models' configurations, not from the paper.

{body}

No value has an error, and the entropy has no population value: the ceiling depends on the number of texts, which is 57 (or
32) here and 1,400 there. So the two corpora can't be compared by it. Our claims read the share of the basis kept
([why](claims.md#what-is-claimed)), which the paper doesn't print.
"""
    return summary, text


def overlaps() -> tuple[list[list[str]], str]:
    """Table 4."""
    rows = pd.read_csv(FOLDER / "overlap.csv")
    wide = rows.pivot(index=["left", "right", "kind", "k"], columns="stage", values="value").reset_index()
    wide["change"] = wide["embedder"] - wide["backbone"]
    body = table(
        ["pair", "kind", "k", "backbones", "embedders", "change", "chance"],
        [
            [
                pair_of(row), row["kind"], f"{row['k']}", f"{row['backbone']:.3f}", f"{row['embedder']:.3f}",
                signed(row["change"], 3), f"{chance_overlap(row['k'], 50_000):.4f}",
            ]
            for _, row in wide.iterrows()
        ],
    )  # fmt: skip
    limit = PAPER_CLAIMS["local_geometry_reorganised"].tests[0].threshold
    rise = PAPER_CLAIMS["local_geometry_not_restored"].tests[0].threshold
    own = wide[(wide["kind"] == "rlvr")]
    ten = own[own["k"] == 10].iloc[0]
    sft = wide[(wide["kind"] == "sft") & (wide["k"] == 10)].iloc[0]
    summary = [
        ["RLVR reorganises local geometry", "4", stands([ten["backbone"] < limit]),
         f"{ten['backbone']:.2f} at k = 10 lies far below {limit:g}; it would take an error of "
         f"{(limit - ten['backbone']) / 1.7:.2f} to doubt it. It is the prolonged pair alone."],
        ["Contrastive training does not bring the neighbours back", "4",
         stands(own["change"] < rise),
         f"The overlap changes by {signed(own['change'].min(), 3)} to {signed(own['change'].max(), 3)}, and less than {rise:g} was allowed."],
        ["Neighbours differ by more than those of two seeds", "4", UNKNOWN,
         "The overlap of two trainings of one backbone is not published."],
        ["SFT reorganises neighbours more than RLVR", "4", stands([sft["backbone"] < ten["backbone"]]),
         f"{sft['backbone']:.3f} against {ten['backbone']:.3f} at k = 10, one pair each. Models that share nothing but their "
         "texts overlap too (by 0.15 in a simulation of 57 short texts), and no such floor is published."],
    ]  # fmt: skip
    text = f"""## Neighbours (Table 4)

Mean overlap over layers. "Chance" is the overlap of random sets among 50,000 tokens.

{body}

None has an error. Neighbours of a token often come from its own text, so even unrelated models share some.
"""
    return summary, text


UNPRINTED = [
    [
        "RLVR preserves the global geometry",
        "–",
        UNKNOWN,
        "No value of CKA is printed; it stands in heatmaps alone.",
    ],
    [
        "A linear probe reads either model",
        "–",
        UNKNOWN,
        "Accuracies are bars of a figure; one data set and one split.",
    ],
    ["Realignment is fast", "–", UNKNOWN, "The course of a training is a figure of one pair."],
]


def page() -> str:
    """The whole page."""
    parts = [scores(), rotations(), overlaps()]
    summary = [row for rows, _ in parts for row in rows] + UNPRINTED
    counts = {
        verdict: sum(row[2] == verdict for row in summary)
        for verdict in (CONFIRMED, HANGS, CONTRADICTED, UNKNOWN)
    }
    opening = f"""# The paper's claims, reread

Made by `python docs/reread.py --write` from the published numbers (`src/realign/results/reference`); do not edit by hand.

This page puts the printed numbers of the paper under the rules that judge a study here ([claims.md](claims.md)). No
model was run. The claims are the paper's and those at points where its numbers disagree. A claim is confirmed if
every reading of the printed numbers satisfies its rule: each corpus, pair and benchmark, each threshold that must fit
all, each meaning of ±. It is contradicted if no reading does, and hangs on a choice if some do. Only Table 1 has errors,
so elsewhere "confirmed" doesn't mean that other texts would show the same.

Of {len(summary)} claims {counts[CONFIRMED]} are confirmed, {counts[CONTRADICTED]} contradicted, {counts[HANGS]} hang on a
choice, and {counts[UNKNOWN]} can't be told from what is published.

{table(["claim", "tables", "verdict", "why"], summary)}
"""
    return "\n".join([opening, *(text for _, text in parts)])


def main(words: list[str]) -> int:
    """Write the page, or say whether it is as it would be written."""
    made = page()
    if words == ["--write"]:
        PAGE.write_text(made, encoding="utf-8")
        return 0
    if words == ["--check"]:
        stale = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != made
        if stale:
            print("out of date: docs/reread.md; run make docs", file=sys.stderr)
        return int(stale)
    print("usage: python docs/reread.py --write | --check", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
