"""Estimates from benchmark scores: gains by task and seed, lifts query by query."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from realign.claims.findings import Evidence, Finding
from realign.results.gains import score_of_random_weights
from realign.results.queries import PLACE, lift
from realign.results.statistics import UNKNOWN, least_p
from realign.results.tidy import pick
from realign.study.claims import ClaimTest

SPEAKS_OF = {"tasks": "other tasks like these", "seeds": "these tasks, other seeds"}


def gain(evidence: Evidence, test: ClaimTest) -> Iterator[Finding]:
    """Right minus left on each benchmark, the plain paired test beside it."""
    for pair in evidence.pairs(test):
        paths = (p.name for p in evidence.tidy.files("scores"))
        files = [f"scores/{name}" for name in paths if name.split("+")[0] in (pair.left, pair.right)]
        found = {gain.benchmark: gain for gain in evidence.gains[pair.name]}
        for benchmark in [test.benchmark] if test.benchmark else list(found) or [""]:
            what = f"gain, {benchmark or 'no benchmark'} ({SPEAKS_OF[test.over]})"
            if benchmark not in found:
                facts: dict = {"why": "no scores of both sides"}
                yield Finding(pair.name, what, test, UNKNOWN, test.threshold, facts=facts)
                continue
            own = found[benchmark]
            tasks, seeds = own.table.shape
            estimate = own.estimate if test.over == "tasks" else own.on_these_tasks
            floor = score_of_random_weights(evidence.scores, evidence.random_weights(pair), own)
            facts = {
                "tasks": tasks, "seeds": seeds, "types": len(set(own.types)),
                "p_paired": max(estimate.p_differs(), least_p(estimate.freedom)),
                "mean_scores": [own.left.mean(), own.right.mean()],
            }  # fmt: skip
            if np.isfinite(floor):
                facts["score_of_random_weights"] = floor
            if tasks > 1:
                facts["task_that_moves_it_most"], facts["gain_without_it"] = own.without_one_task
            elif test.over == "tasks":
                facts["why"] = "no interval: one task says nothing of other tasks"
            yield Finding(pair.name, what, test, estimate, test.threshold, files, facts)


def lifts(evidence: Evidence, test: ClaimTest) -> Iterator[Finding]:
    """Each backbone's embedders over the backbone itself, in points of retrieval nDCG@10."""
    scored = pick(evidence.tidy.queries, task_type="Retrieval")
    trained = pick(scored[scored["step"].isna()], recipe=evidence.asked.view.recipe)
    for backbone in dict.fromkeys(s for pair in evidence.pairs(test) for s in (pair.left, pair.right)):
        embedders, itself = pick(trained, backbone=backbone), pick(scored, embedder=backbone)
        rows = pd.concat([itself, embedders])
        names = list(dict.fromkeys(embedders["embedder"]))
        facts: dict = {"seeds": len(names), "queries": len(rows[PLACE].drop_duplicates())}
        measured = len(itself) and len(embedders)
        if not measured:
            facts["why"] = "not measured"
        estimate = lift(rows, backbone, names) if measured else UNKNOWN
        files = sorted(set(rows["file"].astype(str)))
        what = "lift over the backbone itself, retrieval nDCG@10"
        yield Finding(backbone, what, test, estimate, test.threshold, files, facts)
