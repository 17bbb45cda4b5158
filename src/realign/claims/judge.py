"""Judging a study's claims: each test's estimate, its p-values, Holm's correction, the verdict.

A test holds when its own alternative is significant, fails when the opposite one is, and is
undecided otherwise: too little data is never taken for evidence of anything. A claim holds only if
each of its tests does, which needs no correction; it fails if one of them does, so p-values for failing
take Holm's correction over all tests of the claim.
"""

import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from realign.artifacts.command import Job
from realign.claims.findings import Evidence, Finding
from realign.claims.scores import gain, lifts
from realign.claims.similarity import (
    attention_gap,
    change,
    corpus_gap,
    level,
    progress,
    readout_gap,
    title_of,
)
from realign.claims.tables import claim_rows, markdown
from realign.measures.table import MEASURES
from realign.results.columns import COLUMNS, NUMBERS
from realign.results.power import could_decide
from realign.results.statistics import UNKNOWN, Estimate, holm
from realign.results.tidy import Tidy
from realign.results.verdicts import FAILS, HOLDS, UNDECIDED, overall
from realign.study.claims import ClaimTest
from realign.study.drawing import JudgeClaims

ESTIMANDS: dict[str, Callable[[Evidence, ClaimTest], Iterator[Finding]]] = {
    "gain": gain, "lift": lifts, "level": level, "change": change, "progress": progress,
    "corpus_gap": corpus_gap, "attention_gap": attention_gap, "readout_gap": readout_gap,
}  # fmt: skip
NOTHING = "no pair, corpus or score of this study is selected"


def run(job: Job[JudgeClaims]) -> None:
    """Judge all claims and write them as Parquet, JSON and Markdown."""
    asked = job.settings
    judged = judge(asked, Tidy(job.inputs_of("tidy")))
    rows = [row for name, findings in judged.items() for row in claim_rows(asked, name, findings)]
    schema = pa.schema([(c, pa.float64() if c in NUMBERS else pa.string()) for c in COLUMNS["claims"]])
    pq.write_table(pa.Table.from_pylist(rows, schema), job.output("verdicts"))
    readable = [{**row, "evidence": json.loads(row["evidence"])} for row in rows]
    text = json.dumps(readable, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    job.output("json").write_text(text, encoding="utf-8")
    job.output("md").write_text(markdown(asked, judged), encoding="utf-8")
    job.note(verdicts={name: overall(f.verdict for f in findings) for name, findings in judged.items()})


def judge(asked: JudgeClaims, tidy: Tidy) -> dict[str, list[Finding]]:
    """Every claim's findings, judged."""
    evidence = Evidence(asked, tidy)
    judged = {}
    for name in dict.fromkeys((*asked.order, *asked.claims)):
        findings = [
            f
            for test in asked.claims[name].tests
            for f in list(ESTIMANDS[test.statistic](evidence, test)) or [empty(test)]
        ]
        settle(findings, asked.alpha)
        judged[name] = findings
    return judged


def empty(test: ClaimTest) -> Finding:
    """What stands for a test without anything to test, so that no claim holds for lack of pairs."""
    return Finding("none", title_of(test), test, UNKNOWN, test.threshold, facts={"why": NOTHING})


def settle(findings: Sequence[Finding], alpha: float) -> None:
    """Compute each finding's p-values, correct those for failing together, and give the verdicts."""
    for finding in findings:
        finding.p_holds, finding.p_fails = p_values(finding.estimate, finding.test.rule, finding.threshold)
    for finding, p_fails in zip(findings, holm([f.p_fails for f in findings]), strict=True):
        finding.p_fails_holm = p_fails
        finding.verdict = HOLDS if finding.p_holds < alpha else FAILS if p_fails < alpha else UNDECIDED
        if finding.verdict == UNDECIDED:
            of_one = alpha / len(findings)  # Holm's level for the first of them
            reach = could_decide(finding.estimate, finding.test.rule, finding.threshold, alpha, of_one)
            finding.facts |= _possible(reach, finding.test)


def _possible(reach: dict[str, float], test: ClaimTest) -> dict[str, float]:
    """Of the values from which on a level is decided, those that its measure can take."""
    if test.statistic != "level" or test.rule not in ("above", "below"):
        return reach
    low, high = MEASURES[test.measure].main.bounds
    return {way: value for way, value in reach.items() if low <= value <= high}


def p_values(estimate: Estimate, rule: str, threshold: float) -> tuple[float, float]:
    """The p-values for a rule's own alternative and for the opposite one."""
    if not np.isfinite(estimate.value):
        return 1.0, 1.0
    if rule == "equivalent":
        return estimate.p_equivalent(threshold), estimate.p_beyond(threshold)
    if rule == "different":
        return estimate.p_differs(threshold), 1.0
    above, below = estimate.p_above(threshold), estimate.p_below(threshold)
    return (above, below) if rule.startswith("above") else (below, above)
