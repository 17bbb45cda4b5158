"""Judged claims as tidy rows and as Markdown."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from realign.claims.findings import Finding
from realign.results.columns import COLUMNS
from realign.results.statistics import least_p
from realign.results.verdicts import ALL, overall, reach_text, rule_text
from realign.study.drawing import JudgeClaims


def interval_level(rule: str, alpha: float) -> float:
    """The level of the interval that a single test decides by: it has the threshold outside where it decides.

    A rule with one direction, or two at once, has all of alpha at either end.
    """
    return 1 - alpha if rule == "different" else 1 - 2 * alpha


def claim_rows(asked: JudgeClaims, name: str, findings: Sequence[Finding]) -> Iterator[dict[str, Any]]:
    """The tidy rows of one claim: its verdict over all pairs, then each test."""
    whole = {
        "says": asked.claims[name].says, "tests": len(findings), **Counter(f.verdict for f in findings),
        "correction": "Holm, within the claim, for failing",
    }  # fmt: skip
    yield {
        **dict.fromkeys(COLUMNS["claims"]), "study": asked.study, "claim": name, "pair": ALL,
        "statistic": "verdict", "verdict": overall(f.verdict for f in findings), "evidence": _json(whole),
    }  # fmt: skip
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


def _json(evidence: dict[str, Any]) -> str:
    """Facts as JSON, which cannot say infinities."""
    return json.dumps(_finite(evidence), sort_keys=True, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def markdown(asked: JudgeClaims, judged: dict[str, list[Finding]]) -> str:
    """The verdicts for people."""
    lines = [f"# Claims of {asked.study}", ""]
    lines.append(
        f"Level {asked.alpha:g}. A claim holds when all its tests hold, and fails when one fails; "
        "p-values for failing take Holm's correction over the tests of the claim. Intervals are those that "
        "a single test decides by: two-sided ones of "
        f"{1 - 2 * asked.alpha:.0%}, of {1 - asked.alpha:.0%} where the rule is 'other than'. Beside "
        "'undecided' stands what a study with this error decides in four of five runs."
    )
    for name, findings in judged.items():
        lines += ["", f"## {name}: {overall(f.verdict for f in findings)}", "", asked.claims[name].says, ""]
        lines += [
            "| pair | statistic | value | interval | rule | p, holds | p, fails | verdict |",
            "| --- | --- | ---: | --- | --- | ---: | ---: | --- |",
        ]
        for f in findings:
            low, high = f.estimate.interval(interval_level(f.test.rule, asked.alpha))
            shown = f"[{low:.3f}, {high:.3f}]" if np.isfinite([low, high]).all() else "unknown"
            known = np.isfinite(f.estimate.value)
            value = f"{f.estimate.value:.3f}" if known else f.facts.get("why", "not measured")
            rule = rule_text(f.test.rule, f.threshold)
            p = [_shown_p(p, f.estimate.freedom) for p in (f.p_holds, f.p_fails_holm)]
            reach = reach_text(f.test.rule, f.facts)
            verdict = f"{f.verdict}; {reach}" if reach else f.verdict
            lines.append(f"| {' | '.join((f.pair, f.what, value, shown, rule, *p, verdict))} |")
    return "\n".join(lines) + "\n"
