"""Estimates from measures of similarity: levels, changes, progress, gaps."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from realign.claims.findings import Evidence, Finding, on_embedders
from realign.measures.table import MEASURES
from realign.results.controls import across_seeds, two_seeds
from realign.results.estimates import number_of, row_estimates
from realign.results.probe import telling_corpora
from realign.results.statistics import UNKNOWN, BySeeds, Estimate, beyond_seeds, over_seeds
from realign.results.tidy import pick
from realign.study.claims import ClaimTest
from realign.study.description import PairEntry

# Which model a probe is read from that was fitted on the other one, as rows call it.
WAYS = {"right": "right minus left, probe of the left", "back": "left minus right, probe of the right"}
SIZES_ALIKE = 1.1  # how much larger one sample may be where a measure depends on the sample's size


def level(evidence: Evidence, test: ClaimTest) -> Iterator[Finding]:
    """The measure itself, or how far it lies from the floor of the same backbones' other seeds."""
    for pair, attention, corpus, where in _corpora(evidence, test):
        about = {"stage": test.stage, "attention": attention, "corpus": (corpus, "")}
        rows = _rows(evidence, test, pair=pair.name, **about)
        estimate = _read(evidence, test, rows)
        facts = _sinks(evidence, test, rows, pair=pair.name, **about)
        alone = _read(
            evidence, test, _rows(evidence, test, pair=f"{pair.left}-shuffled_in_texts", **about)
        ).value
        facts |= {"of_texts_alone": alone} if np.isfinite(alone) else {}
        if test.rule.endswith("_floor"):
            estimate, rows, more = _beyond_seeds(evidence, test, pair, about)
            facts |= more
        yield _finding(test, pair, f"{title_of(test)}, {test.stage}s, {where}", estimate, rows, facts)


def _beyond_seeds(
    evidence: Evidence, test: ClaimTest, pair: PairEntry, about: dict[str, Any]
) -> tuple[Estimate, pd.DataFrame, dict[str, Any]]:
    """A pair's comparisons across seeds beside those of two seeds of one side: neither share batches."""
    rows = _rows(evidence, test, **about)
    floors = two_seeds(rows, pair)
    parts = [
        across_seeds(rows, pair),
        *(floors[floors["pair"] == f"{s}-seeds"] for s in (pair.left, pair.right)),
    ]
    crossed, left, right = (_by_seeds(evidence, test, part) for part in parts)
    facts: dict[str, Any] = {
        "across_seeds": over_seeds(list(crossed.values())).value,
        "floor": over_seeds([*left.values(), *right.values()]).value,
        "seeds": len({seed for seeds in crossed for seed in seeds}),
    }
    found = beyond_seeds(crossed, left, right)
    if len(rows) and not np.isfinite(found.value):
        facts["why"] = "the pair's sides were not compared across seeds, as two seeds of one side are"
    return found, pd.concat(parts), facts


def change(evidence: Evidence, test: ClaimTest) -> Iterator[Finding]:
    """Embedders minus backbones."""
    for pair, attention, corpus, where in _corpora(evidence, test):
        about = {"pair": pair.name, "attention": attention, "corpus": (corpus, "")}
        before, after = (_rows(evidence, test, stage=s, **about) for s in ("backbone", "embedder"))
        first, last = _read(evidence, test, before), _read(evidence, test, after)
        facts = {"backbones": first.value, "embedders": last.value}
        what = f"{title_of(test)}, embedders minus backbones, {where}"
        yield _finding(test, pair, what, last - first, pd.concat([before, after]), facts)


def progress(evidence: Evidence, test: ClaimTest) -> Iterator[Finding]:
    """The share of the whole rise that is made by a checkpoint, all read from one seed.

    A measure that falls from backbones to embedders refutes any share of a rise; one that starts near
    its top has nowhere to rise, and must not have been lost by the checkpoint.
    """
    for pair, attention in _places(evidence, test):
        about = {"pair": pair.name, "attention": attention, "corpus": (evidence.main_corpus, "")}
        rows = _rows(evidence, test, **about)
        between = rows[rows["stage"] == "checkpoint"]
        step = test.by_step or between["step"].min(skipna=True)
        step = 0 if np.isnan(step) else step
        at = between[between["step"] == step]
        last = rows[(rows["stage"] == "embedder") & rows["seed_left"].isin(at["seed_left"])]
        first = rows[rows["stage"] == "backbone"]
        start, now, end = (_read(evidence, test, part) for part in (first, at, last))
        whole, sure = end - start, evidence.asked.alpha / 2
        known = bool(np.isfinite([start.value, now.value, end.value]).all())
        facts: dict[str, Any] = {"step": step, "start": start.value, "then": now.value, "end": end.value}
        estimate, threshold = UNKNOWN, test.share
        what = f"share of the rise by step {step:g}"
        if start.value >= 1 - test.kept:
            facts["why"] = f"it starts within {test.kept:g} of 1, so the test is that it is not lost"
            what, estimate, threshold = f"step {step:g} minus start", now - start, -test.kept
        elif known and whole.p_below(0.0) < sure:
            facts["why"] = "it falls from backbones to embedders, so there is no rise to have a share of"
            what, estimate, threshold = "embedders minus backbones", whole, 0.0
        elif known and whole.p_above(0.0) < sure:
            estimate = share_of_rise(start, now, end, test.share)
        elif np.isfinite(whole.value):
            facts["why"] = "the whole change cannot be told from none, so there is no share of it"
        files = pd.concat([first, at, last])
        what = f"{title_of(test)}, {what}, {attention}"
        yield _finding(test, pair, what, estimate, files, facts, threshold)


def share_of_rise(start: Estimate, now: Estimate, end: Estimate, share: float) -> Estimate:
    """(now - start) / (end - start), with the error that it has where it equals `share`.

    There now - start - share · (end - start) is zero, and its error is that of
    now - (1 - share) · start - share · end, as if the three were independent.
    """
    whole = end.value - start.value
    parts = (now.error, (1 - share) * start.error, share * end.error)
    error = float(np.sqrt(np.square(parts).sum()) / abs(whole))
    return Estimate((now.value - start.value) / whole, error, min(e.freedom for e in (start, now, end)))


def corpus_gap(evidence: Evidence, test: ClaimTest) -> Iterator[Finding]:
    """Each further corpus minus the main one; at like sizes alone where a measure depends on them."""
    for pair, attention in _places(evidence, test):
        about = {"pair": pair.name, "stage": test.stage, "attention": attention}
        own = _rows(evidence, test, corpus=evidence.main_corpus, **about)
        for other in evidence.asked.view.corpora[1:]:
            theirs = _rows(evidence, test, corpus=other, **about)
            estimate, facts = _read(evidence, test, theirs) - _read(evidence, test, own), {}
            if MEASURES[test.measure].sized and (sizes := _unlike(evidence, own, theirs)):
                estimate, facts = UNKNOWN, {"why": f"{title_of(test)} depends on the sample's size: {sizes}"}
            what = f"{title_of(test)}, {other} minus {evidence.main_corpus}, {attention}"
            yield _finding(test, pair, what, estimate, pd.concat([own, theirs]), facts)


def _unlike(evidence: Evidence, *both: pd.DataFrame) -> str:
    """How the samples of two corpora differ in size, in words; nothing where they are alike."""
    samples = [pick(evidence.tidy.measures, measure="sample", file=list(set(rows["file"]))) for rows in both]
    for unit in ("texts", "tokens"):
        sizes = [pick(sample, statistic=unit)["value"].mean() for sample in samples]
        if max(sizes) > SIZES_ALIKE * min(sizes):
            return f"{sizes[0]:,.0f} and {sizes[1]:,.0f} {unit}"
    return ""


def attention_gap(evidence: Evidence, test: ClaimTest) -> Iterator[Finding]:
    """Causal minus bidirectional."""
    for pair in evidence.pairs(test):
        about = {"pair": pair.name, "stage": test.stage, "corpus": evidence.main_corpus}
        own, other = (_rows(evidence, test, attention=a, **about) for a in ("bidirectional", "causal"))
        estimate = _read(evidence, test, other) - _read(evidence, test, own)
        what = f"{title_of(test)}, causal minus bidirectional"
        yield _finding(test, pair, what, estimate, pd.concat([own, other]))


def readout_gap(evidence: Evidence, test: ClaimTest) -> Iterator[Finding]:
    """How much a probe loses on the model that it was not fitted on, at the last layer, either way."""
    corpora = telling_corpora(evidence.asked.view, evidence.measures)
    corpora = corpora if test.corpora == "all" else corpora[:1]
    for (pair, attention), corpus, way in product(_places(evidence, test, "probe"), corpora or [""], WAYS):
        rows = pick(
            evidence.measures, measure="probe", statistic="accuracy_change", direction=way, corpus=corpus,
            pair=pair.name, stage=test.stage, attention=attention, split=test.split,
        )  # fmt: skip
        rows = rows[rows["layer_left"] == rows["layer_left"].max()]
        estimate, facts = over_seeds(row_estimates(rows)), {}
        if estimate.error == 0:  # as happens with a handful of texts; it is no proof of equality
            estimate = Estimate(estimate.value, np.inf)
            facts["why"] = "no interval: accuracy was the same without any group of texts"
        where = attention if corpus in corpora[:1] else f"{attention}, {corpus}"
        what = f"probe accuracy, {WAYS[way]}, {test.stage}s, {where}"
        yield _finding(test, pair, what, estimate, rows, facts)


def title_of(test: ClaimTest) -> str:
    """What a test measures, in words."""
    return MEASURES[test.measure].title if test.measure else test.statistic.replace("_", " ")


def _places(evidence: Evidence, test: ClaimTest, measure: str = "") -> Iterator[tuple[PairEntry, str]]:
    """Every selected pair in each attention mode that was measured; embedders have one of their own.

    A measure of the models themselves has no mode, as it has no corpus: an empty text stands for either.
    """
    stage = "embedder" if on_embedders(test) else "backbone"
    there = set(pick(evidence.measures, stage=stage, measure=measure or test.measure)["attention"])
    attentions = [a for a in ("", *test.attentions) if a in there] or test.attentions[:1]
    return ((pair, attention) for pair in evidence.pairs(test) for attention in attentions)


def _corpora(evidence: Evidence, test: ClaimTest) -> Iterator[tuple[PairEntry, str, str, str]]:
    """The same on each corpus that is asked for, and both in words; the main corpus goes without saying."""
    further = evidence.asked.view.corpora[1:] if test.corpora == "all" else ()
    for pair, attention in _places(evidence, test):
        for corpus in (evidence.main_corpus, *(further if attention else ())):
            where = attention if corpus == evidence.main_corpus else f"{attention}, {corpus}"
            yield pair, attention, corpus, where


def _rows(evidence: Evidence, test: ClaimTest, **equal: Any) -> pd.DataFrame:
    """The rows of the test's measure, of its neighbourhood size where the measure has one."""
    rows = pick(evidence.measures, measure=test.measure, **equal)
    return rows[rows["k"] == test.k] if MEASURES[test.measure].family == "neighbours" else rows


def _read(evidence: Evidence, test: ClaimTest, rows: pd.DataFrame) -> Estimate:
    """The measure's number over seeds, from rows of one comparison and corpus."""
    return over_seeds(list(_by_seeds(evidence, test, rows).values()))


def _by_seeds(evidence: Evidence, test: ClaimTest, rows: pd.DataFrame) -> BySeeds:
    """The measure's number by the seeds of both sides."""
    view = evidence.asked.view
    return {
        seeds: number_of(own, test.measure, view.preset, view.first_layer)
        for seeds, own in rows.groupby(["seed_left", "seed_right"], sort=True, dropna=False)
    }


def _sinks(evidence: Evidence, test: ClaimTest, rows: pd.DataFrame, **about: Any) -> dict[str, Any]:
    """What attention sinks add to a level, or why they could not be left out of it."""
    declared = MEASURES[test.measure]
    main = rows[
        rows["statistic"] == (declared.statistic if declared.layers == "final" else "mean_over_layers")
    ]
    main = main[main["with_sinks"].notna()]
    if len(main):
        gap = main["with_sinks"] - main["value"]
        return {
            "with_sinks": float(main["with_sinks"].mean()),
            "sinks_add": float(gap.loc[gap.abs().idxmax()]),
        }
    if not declared.sums_squares or rows.empty:
        return {}
    counts = pick(evidence.measures, measure="sinks", statistic="count", **about)["value"]
    if counts.empty:
        return {"sinks": "not looked for: these measures were written by an earlier version"}
    return {"sinks": f"{counts.max():g} tokens, which could not be left out"} if counts.max() else {}


def _finding(
    test: ClaimTest, pair: PairEntry, what: str, estimate: Estimate, rows: pd.DataFrame,
    facts: dict[str, Any] | None = None, threshold: float | None = None,
) -> Finding:  # fmt: skip
    """The finding, with the texts and files behind it and, where there is no number, the reason."""
    facts = dict(facts or {})
    if rows.empty:
        facts["why"] = "not measured"
    elif not np.isfinite(estimate.error) and "why" not in facts:
        facts["why"] = "no interval: too few texts or seeds"
    if len(rows):
        facts["texts"] = float(rows["n"].max())
        if rows["se"].isna().all() and np.isfinite(estimate.error):
            facts["errors"] = "read from shown intervals: these measures were written without errors"
    limit = test.threshold if threshold is None else threshold
    what = what.removesuffix(", ")  # of a measure without attention modes
    return Finding(pair.name, what, test, estimate, limit, sorted(set(rows["file"].astype(str))), facts)
