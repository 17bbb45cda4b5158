"""Judging a study's claims: each test's estimate, its p-values, Holm's correction, the verdict.

A test holds when its own alternative is significant, fails when the opposite one is, and is
undecided otherwise: too little data is never taken for evidence of anything. A claim holds only if
each of its tests does, which needs no correction; it fails if one of them does, so p-values for failing
take Holm's correction over all tests of the claim.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from realign.artifacts.command import Job
from realign.measures import MEASURES
from realign.results.columns import COLUMNS, NUMBERS
from realign.results.estimates import number_of, row_estimates
from realign.results.gains import gains
from realign.results.probe import of_probe_corpus
from realign.results.queries import PLACE, lift
from realign.results.statistics import UNKNOWN, Estimate, holm, least_p, over_seeds
from realign.results.tidy import Tidy, of_preset, pick, task_scores
from realign.results.verdicts import ALL, FAILS, HOLDS, UNDECIDED, rule_text
from realign.study.claims import Claim, Claims, ClaimTest
from realign.study.description import PairEntry
from realign.study.drawing import JudgeClaims

NOTHING = "no pair, corpus or score of this study is selected"


@dataclass
class Finding:
    """One test of one pair: what was estimated, from which files, and how it was judged."""

    pair: str
    what: str
    test: ClaimTest
    estimate: Estimate
    threshold: float
    files: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    p_holds: float = 1.0
    p_fails: float = 1.0
    p_fails_holm: float = 1.0
    verdict: str = UNDECIDED


def run(job: Job[JudgeClaims]) -> None:
    """Judge all claims and write them as Parquet, JSON and Markdown."""
    asked = job.settings
    judged = judge(asked, Tidy(job.inputs_of("tidy")))
    rows = [row for name, findings in judged.items() for row in claim_rows(asked, name, findings)]
    schema = pa.schema([(c, pa.float64() if c in NUMBERS else pa.string()) for c in COLUMNS["claims"]])
    pq.write_table(pa.Table.from_pylist(rows, schema), job.output("verdicts"))
    readable = [{**row, "evidence": json.loads(row["evidence"])} for row in rows]
    text = json.dumps(_finite(readable), indent=1, ensure_ascii=False) + "\n"
    job.output("json").write_text(text, encoding="utf-8")
    job.output("md").write_text(markdown(asked, judged), encoding="utf-8")
    job.note(verdicts={name: overall(findings) for name, findings in judged.items()})


def judge(asked: JudgeClaims, tidy: Tidy) -> dict[str, list[Finding]]:
    """Every claim's findings, judged."""
    reader = Reader(asked, tidy)
    judged = {}
    order = list(Claims(tensions=True).all())  # ours first, as they are stated; then the study's own
    for name in sorted(asked.claims, key=lambda n: order.index(n) if n in order else len(order)):
        findings = [
            f for test in asked.claims[name].tests for f in list(reader.findings(test)) or [empty(test)]
        ]
        settle(findings, asked.alpha)
        judged[name] = findings
    return judged


def empty(test: ClaimTest) -> Finding:
    """What stands for a test without anything to test, so that no claim holds for lack of pairs."""
    return Finding("none", told(test), test, UNKNOWN, test.threshold, facts={"why": NOTHING})


def settle(findings: Sequence[Finding], alpha: float) -> None:
    """Compute each finding's p-values, correct those for failing together, and give the verdicts."""
    for finding in findings:
        finding.p_holds, finding.p_fails = p_values(finding.estimate, finding.test.rule, finding.threshold)
    for finding, p_fails in zip(findings, holm([f.p_fails for f in findings]), strict=True):
        finding.p_fails_holm = p_fails
        finding.verdict = HOLDS if finding.p_holds < alpha else FAILS if p_fails < alpha else UNDECIDED


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


def interval_level(rule: str, alpha: float) -> float:
    """The level of the interval that a single test decides by: it has the threshold outside where it decides.

    A rule with one direction, or two at once, has all of alpha at either end.
    """
    return 1 - alpha if rule == "different" else 1 - 2 * alpha


def overall(findings: Sequence[Finding]) -> str:
    """A claim's verdict: all tests hold, one fails, or neither."""
    verdicts = {f.verdict for f in findings}
    if FAILS in verdicts:
        return FAILS
    return HOLDS if verdicts == {HOLDS} else UNDECIDED


def told(test: ClaimTest) -> str:
    """What a test measures, in words."""
    return MEASURES[test.measure].title if test.measure else test.statistic.replace("_", " ")


class Reader:
    """Reads the estimate of any test from tidy results."""

    def __init__(self, asked: JudgeClaims, tidy: Tidy):
        self.asked, self.view = asked, asked.view
        measures = of_preset(tidy.measures, self.view.preset) if len(tidy.measures) else tidy.measures
        same = measures["layer_left"].isna() | (measures["layer_left"] == measures["layer_right"])
        self.measures = measures[same]
        self.scores = task_scores(tidy.scores, self.view.preset)
        self.score_files = tidy.files("scores")
        self.tidy = tidy
        self._readers: dict[str, Callable[[ClaimTest, PairEntry, str], Iterator[Finding]]] = {
            "level": self._level, "change": self._change, "progress": self._progress,
            "corpus_gap": self._corpus_gap, "attention_gap": self._attention_gap,
            "readout_gap": self._readout_gap,
        }  # fmt: skip

    def findings(self, test: ClaimTest) -> Iterator[Finding]:
        """The findings of one test: every pair that it selects, in every attention mode."""
        pairs = [pair for pair in self.asked.pairs if self._selects(test, pair)]
        if test.statistic == "lift":
            for backbone in dict.fromkeys(side for pair in pairs for side in (pair.left, pair.right)):
                yield self._lift(test, backbone)
            return
        for pair in pairs:
            if test.statistic == "gain":
                yield from self._gain(test, pair)
                continue
            for attention in self._attentions(test):
                yield from self._readers[test.statistic](test, pair, attention)

    def _selects(self, test: ClaimTest, pair: PairEntry) -> bool:
        if test.kind not in ("any", pair.kind) or (test.kind == "any" and pair.kind in self.asked.controls):
            return False
        if not set(test.tagged) <= set(pair.tags) or set(test.untagged) & set(pair.tags):
            return False
        return pair.embed or not self._needs_embedders(test)

    @staticmethod
    def _needs_embedders(test: ClaimTest) -> bool:
        return test.stage == "embedder" or test.statistic in ("gain", "lift", "change", "progress")

    def _attentions(self, test: ClaimTest) -> list[str]:
        """The modes that were measured at all where the test looks; embedders have one of their own."""
        if test.statistic == "attention_gap":
            return ["causal minus bidirectional"]
        stage = "embedder" if self._needs_embedders(test) else "backbone"
        measure = "probe" if test.statistic == "readout_gap" else test.measure
        there = set(pick(self.measures, stage=stage, measure=measure)["attention"])
        found: list[str] = [a for a in test.attentions if a in there]
        return found or list(test.attentions[:1])

    def _rows(self, test: ClaimTest, measure: str = "", **equal: Any) -> pd.DataFrame:
        rows = pick(self.measures, measure=measure or test.measure, **equal)
        return rows[rows["k"] == test.k] if MEASURES[measure or test.measure].family == "neighbours" else rows

    def _main_corpus(self) -> str:
        return self.view.corpora[0] if self.view.corpora else ""

    def _read(self, rows: pd.DataFrame, test: ClaimTest) -> Estimate:
        """The measure's number over seeds, from rows of one comparison and corpus."""
        by_seed = [
            number_of(own, test.measure, self.view.preset, self.view.first_layer)
            for _, own in rows.groupby("seed_left", sort=True, dropna=False)
        ]
        return over_seeds(by_seed)

    def _level(self, test: ClaimTest, pair: PairEntry, attention: str) -> Iterator[Finding]:
        rows = self._rows(
            test, pair=pair.name, stage=test.stage, attention=attention, corpus=self._main_corpus()
        )
        estimate, facts = self._read(rows, test), {}
        if test.rule.endswith("_floor"):
            floor_rows = self._floor(test, pair, attention)
            floor = self._read_floor(floor_rows, test)
            facts = {"floor": floor.value, "floor_interval": list(floor.interval()), "level": estimate.value}
            rows = pd.concat([rows, floor_rows])
            estimate = estimate - floor if np.isfinite([estimate.value, floor.value]).all() else UNKNOWN
        yield self._finding(test, pair, f"{told(test)}, {test.stage}s, {attention}", estimate, rows, facts)

    def _floor(self, test: ClaimTest, pair: PairEntry, attention: str) -> pd.DataFrame:
        seeds = (f"{pair.left}-seeds", f"{pair.right}-seeds")
        return self._rows(
            test,
            pair=seeds,
            kind="control",
            stage="embedder",
            attention=attention,
            corpus=self._main_corpus(),
        )

    def _read_floor(self, rows: pd.DataFrame, test: ClaimTest) -> Estimate:
        """The floor of a pair: the mean of its two sides' floors."""
        return over_seeds([self._read(own, test) for _, own in rows.groupby("pair", sort=True)])

    def _change(self, test: ClaimTest, pair: PairEntry, attention: str) -> Iterator[Finding]:
        about = {"pair": pair.name, "attention": attention, "corpus": self._main_corpus()}
        before, after = (self._rows(test, stage=s, **about) for s in ("backbone", "embedder"))
        first, last = self._read(before, test), self._read(after, test)
        facts = {"backbones": first.value, "embedders": last.value}
        yield self._finding(
            test, pair, f"{told(test)}, embedders minus backbones, {attention}", last - first,
            pd.concat([before, after]), facts,
        )  # fmt: skip

    def _progress(self, test: ClaimTest, pair: PairEntry, attention: str) -> Iterator[Finding]:
        """The share of the whole rise that is made by a checkpoint, all read from one seed.

        A measure that falls from backbones to embedders refutes any share of a rise; one that starts near
        its top has nowhere to rise, and must not have been lost by the checkpoint.
        """
        about = {"pair": pair.name, "attention": attention, "corpus": self._main_corpus()}
        rows = self._rows(test, **about)
        between = rows[rows["stage"] == "checkpoint"]
        steps = sorted(between["step"].dropna().unique())
        step = test.by_step or (steps[0] if steps else 0)
        at = between[between["step"] == step]
        seeds = set(at["seed_left"])
        last = rows[(rows["stage"] == "embedder") & rows["seed_left"].isin(seeds)]
        first = rows[rows["stage"] == "backbone"]
        start, now, end = (self._read(part, test) for part in (first, at, last))
        whole = end - start
        facts: dict[str, Any] = {"step": step, "start": start.value, "then": now.value, "end": end.value}
        estimate = UNKNOWN
        what = f"{told(test)}, share of the rise by step {step:g}, {attention}"
        evidence = pd.concat([first, at, last])
        if start.value >= 1 - test.kept:
            facts["why"] = f"it starts within {test.kept:g} of 1, so the test is that it is not lost"
            what = f"{told(test)}, step {step:g} minus start, {attention}"
            yield self._finding(test, pair, what, now - start, evidence, facts, -test.kept)
            return
        known = np.isfinite([start.value, now.value, end.value]).all()
        if known and whole.p_below(0.0) < self.asked.alpha / 2:
            facts["why"] = "it falls from backbones to embedders, so there is no rise to have a share of"
            what = f"{told(test)}, embedders minus backbones, {attention}"
            yield self._finding(test, pair, what, whole, evidence, facts, 0.0)
            return
        if known and whole.p_above(0.0) < self.asked.alpha / 2:
            share = (now.value - start.value) / whole.value
            parts = (now.error, (1 - test.share) * start.error, test.share * end.error)
            error = float(np.sqrt(np.square(parts).sum()) / abs(whole.value))
            estimate = Estimate(share, error, min(e.freedom for e in (start, now, end)))
        elif np.isfinite(whole.value):
            facts["why"] = "the whole change cannot be told from none, so there is no share of it"
        yield self._finding(test, pair, what, estimate, evidence, facts, test.share)

    def _corpus_gap(self, test: ClaimTest, pair: PairEntry, attention: str) -> Iterator[Finding]:
        for other in self.view.corpora[1:]:
            about = {"pair": pair.name, "stage": test.stage, "attention": attention}
            own, theirs = (self._rows(test, corpus=c, **about) for c in (self._main_corpus(), other))
            estimate = self._read(theirs, test) - self._read(own, test)
            what = f"{told(test)}, {other} minus {self._main_corpus()}, {attention}"
            yield self._finding(test, pair, what, estimate, pd.concat([own, theirs]))

    def _attention_gap(self, test: ClaimTest, pair: PairEntry, attention: str) -> Iterator[Finding]:
        about = {"pair": pair.name, "stage": test.stage, "corpus": self._main_corpus()}
        own, other = (self._rows(test, attention=a, **about) for a in ("bidirectional", "causal"))
        estimate = self._read(other, test) - self._read(own, test)
        yield self._finding(test, pair, f"{told(test)}, {attention}", estimate, pd.concat([own, other]))

    def _readout_gap(self, test: ClaimTest, pair: PairEntry, attention: str) -> Iterator[Finding]:
        about = {"pair": pair.name, "stage": test.stage, "attention": attention, "split": test.split}
        rows = self._rows(test, "probe", direction="right", statistic="accuracy_change", **about)
        rows = of_probe_corpus(rows, self.view)
        rows = rows[rows["layer_left"] == rows["layer_left"].max()]
        by_seed = row_estimates(rows)
        what = f"probe accuracy, right minus left, {test.stage}s, {attention}"
        estimate, facts = over_seeds(by_seed), {}
        if estimate.error == 0:  # as happens with a handful of texts; it is no proof of equality
            estimate = Estimate(estimate.value, np.inf)
            facts["why"] = "no interval: accuracy was the same without any group of texts"
        yield self._finding(test, pair, what, estimate, rows, facts)

    def _gain(self, test: ClaimTest, pair: PairEntry) -> Iterator[Finding]:
        """The gain on each benchmark, the plain paired test beside it."""
        sides = (pair.left, pair.right)
        files = [f"scores/{p.name}" for p in self.score_files if p.name.split("+")[0] in sides]
        found = {gain.benchmark: gain for gain in gains(self.scores, pair, self.view.recipe)}
        for benchmark in [test.benchmark] if test.benchmark else list(found) or [""]:
            speaks = {"tasks": "other tasks like these", "seeds": "these tasks, other seeds"}[test.over]
            gain, what = found.get(benchmark), f"gain, {benchmark or 'no benchmark'} ({speaks})"
            if gain is None:
                facts: dict[str, Any] = {"why": "no scores of both sides"}
                yield Finding(pair.name, what, test, UNKNOWN, test.threshold, facts=facts)
                continue
            tasks, seeds = gain.table.shape
            estimate = gain.estimate if test.over == "tasks" else gain.on_these_tasks
            facts = {"tasks": tasks, "seeds": seeds, "types": len(set(gain.types))}
            facts["p_paired"] = max(estimate.p_differs(), least_p(estimate.freedom))
            facts["mean_scores"] = [gain.left.mean(), gain.right.mean()]  # equal ones near chance say little
            yield Finding(pair.name, what, test, estimate, test.threshold, files, facts)

    def _lift(self, test: ClaimTest, backbone: str) -> Finding:
        scored = pick(self.tidy.queries, task_type="Retrieval")
        embedders = pick(scored[scored["step"].isna()], backbone=backbone, recipe=self.view.recipe)
        rows = pd.concat([pick(scored, embedder=backbone), embedders])
        names = list(dict.fromkeys(embedders["embedder"]))
        there = names and len(rows) > len(embedders)
        estimate = lift(rows, backbone, names) if there else UNKNOWN
        facts: dict[str, Any] = {"seeds": len(names), "queries": len(rows[PLACE].drop_duplicates())}
        if not there:
            facts["why"] = "not measured"
        files = sorted(set(rows["file"].astype(str)))
        what = "lift over the backbone itself, retrieval nDCG@10"
        return Finding(backbone, what, test, estimate, test.threshold, files, facts)

    def _finding(
        self, test: ClaimTest, pair: PairEntry, what: str, estimate: Estimate, rows: pd.DataFrame,
        facts: dict[str, Any] | None = None, threshold: float | None = None,
    ) -> Finding:  # fmt: skip
        facts = dict(facts or {})
        if rows.empty:
            facts["why"] = "not measured"
        elif not np.isfinite(estimate.error) and "why" not in facts:
            facts["why"] = "no interval: too few texts or seeds"
        if len(rows):
            facts["texts"] = float(rows["n"].max())
            if rows["se"].isna().all() and np.isfinite(estimate.error):
                facts["errors"] = "read from shown intervals: these measures were written without errors"
        files = sorted(set(rows["file"].astype(str))) if len(rows) else []
        limit = test.threshold if threshold is None else threshold
        return Finding(pair.name, what, test, estimate, limit, files, facts)


def claim_rows(asked: JudgeClaims, name: str, findings: Sequence[Finding]) -> Iterator[dict[str, Any]]:
    """The tidy rows of one claim: its verdict over all pairs, then each test."""
    counts = Counter(f.verdict for f in findings)
    whole = {
        "says": asked.claims[name].says,
        "tests": len(findings),
        **counts,
        "correction": "Holm, within the claim, for failing",
    }
    blank = {
        "study": asked.study,
        "claim": name,
        "value": None,
        "ci_low": None,
        "ci_high": None,
        "threshold": None,
    }
    yield {
        **blank,
        "pair": ALL,
        "statistic": "verdict",
        "verdict": overall(findings),
        "evidence": _json(whole),
    }
    for f in findings:
        level = interval_level(f.test.rule, asked.alpha)
        low, high = f.estimate.interval(level)
        least = least_p(f.estimate.freedom)
        evidence = {
            "rule": f.test.rule, "interval_level": level, "df": f.estimate.freedom,
            "p": max(f.p_holds, least), "p_opposite": max(f.p_fails, least),
            "p_opposite_holm": max(f.p_fails_holm, least), **f.facts, "files": f.files,
        }  # fmt: skip
        yield {
            "study": asked.study, "claim": name, "pair": f.pair, "statistic": f.what,
            "value": _number(f.estimate.value), "ci_low": _number(low), "ci_high": _number(high),
            "threshold": f.threshold, "verdict": f.verdict, "evidence": _json(evidence),
        }  # fmt: skip


def _shown_p(p: float, freedom: float) -> str:
    least = least_p(freedom)
    return f"< {least:.2g}" if p < least else f"{p:.3g}"


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _finite(value: Any) -> Any:
    """The value with what JSON cannot say (infinities) left out."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _json(value: Any) -> str:
    return json.dumps(_finite(value), sort_keys=True, ensure_ascii=False)


def markdown(asked: JudgeClaims, judged: dict[str, list[Finding]]) -> str:
    """The verdicts for people."""
    lines = [f"# Claims of {asked.study}", ""]
    lines.append(
        f"Level {asked.alpha:g}. A claim holds when all its tests hold, and fails when one fails; "
        "p-values for failing take Holm's correction over the tests of the claim. Intervals are those that "
        "a single test decides by: two-sided ones of "
        f"{1 - 2 * asked.alpha:.0%}, of {1 - asked.alpha:.0%} where the rule is 'other than'."
    )
    for name, findings in judged.items():
        claim: Claim = asked.claims[name]
        lines += ["", f"## {name}: {overall(findings)}", "", claim.says, ""]
        lines += [
            "| pair | statistic | value | interval | rule | p, holds | p, fails | verdict |",
            "| --- | --- | ---: | --- | --- | ---: | ---: | --- |",
        ]
        for f in findings:
            low, high = f.estimate.interval(interval_level(f.test.rule, asked.alpha))
            shown = f"[{low:.3f}, {high:.3f}]" if np.isfinite([low, high]).all() else "unknown"
            value = (
                f"{f.estimate.value:.3f}"
                if np.isfinite(f.estimate.value)
                else f"{f.facts.get('why', 'not measured')}"
            )
            rule = rule_text(f.test.rule, f.threshold)
            p = [_shown_p(p, f.estimate.freedom) for p in (f.p_holds, f.p_fails_holm)]
            lines.append(
                f"| {f.pair} | {f.what} | {value} | {shown} | {rule} | {p[0]} | {p[1]} | {f.verdict} |"
            )
    return "\n".join(lines) + "\n"
