"""How hard negatives are mined: the teacher, the corpus, what refuses a candidate, and what then.

The defaults are those of positive-aware mining at 95 % of the positive's score, three negatives a
query, nearest first, among the positives of the same dataset.
"""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import model_validator

from realign.study.base import Name, Section, setting
from realign.study.embedder import EmbedderSettings
from realign.study.errors import nearest, undeclared
from realign.study.judging import Audit, AuditJob, Judge, Relabel, RelabelJob, Relabelling, Sampling
from realign.study.project import Project

Filter = Literal["absolute_margin", "relative_margin", "max_score", "min_score", "range_min", "range_max"]


class Lexical(Section):
    """A teacher without a model: hashed words and pieces of words, weighted by rarity, projected."""

    features: int = setting(1 << 16, "Buckets that words, and pieces, are hashed into.", ge=1 << 8)
    dimensions: int = setting(1024, "Length of the vectors; shorter ones tell texts apart less well.", ge=8)
    words: int = setting(1, "The longest run of words that is a feature.", unit="words", ge=1)
    characters: int = setting(
        4, "The longest run of characters inside a word that is a feature; 0 is none.", ge=0
    )


class Approximate(Section):
    """An inverted-file index in place of the exact search, for corpora of very many passages."""

    above: int = setting(10_000_000, "Corpora with more passages than this use it.", unit="passages", ge=0)
    lists: int | None = setting(None, "Lists of the index; by default 4 times the corpus's root.", ge=1)
    probes: int = setting(64, "Lists that are looked into for each query.", ge=1)
    sample: int = setting(
        1000, "Queries whose exact answer is compared, to measure the recall.", unit="queries", ge=1
    )
    least_recall: float = setting(
        0.95, "Mining stops with an error when the measured recall is below this.", ge=0, le=1
    )


class Teaching(Section):
    """What decides a teacher's vectors, beside the teacher itself."""

    instructions: bool = setting(False, "Whether the teacher sees a row's instruction before its query.")
    query_prompt: str | None = setting(
        None, "What the teacher reads before each query; unset is the teacher's own prompt if it has one."
    )
    passage_prompt: str | None = setting(
        None, "What it reads before each passage; unset is the teacher's own prompt if it has one."
    )
    max_length: int | None = setting(
        None, "Texts are cut after this many tokens; unset is the teacher's own limit.", unit="tokens", ge=2
    )
    dtype: Literal["float32", "bfloat16", "float16"] = setting(
        "float32", "The type that the teacher computes in; vectors are kept in float32."
    )
    pooling: EmbedderSettings = setting(
        EmbedderSettings(), "How a plain backbone is read as a teacher; others bring their own."
    )
    lexical: Lexical | None = setting(None, "Use a teacher without a model.")
    invalid: Literal["error", "drop"] = setting(
        "error", "What happens to a line that is no usable row: stop and name it, or drop and count it."
    )


class MiningSettings(Teaching):
    """Everything but where the teacher and the corpus come from."""

    negatives: int = setting(3, "Negatives a row shall have; existing ones count.", unit="texts", ge=1)
    choose: Literal["top", "random"] = setting(
        "top", "Which survivors become negatives: the nearest, or a seeded random draw."
    )
    range_min: int = setting(0, "So many of the nearest survivors are passed over.", ge=0)
    range_max: int | None = setting(
        100,
        "How far down the ranking candidates are taken, the positives not counted; unset takes ten "
        "for each negative where something can refuse them, else just enough.",
        unit="ranks",
        ge=1,
    )
    range_counts: Literal["eligible", "all"] = setting(
        "eligible",
        "What `range_max` counts: eligible texts, so that refused ones use up no place and a row is short "
        "only when the corpus holds no more; or all but the positives, as sentence-transformers does.",
    )
    range_max_share: float | None = setting(
        None, "And no further than this share of the dataset's rows.", gt=0, le=1
    )
    relative_margin: float | None = setting(
        0.05,
        "Refuses what comes closer to the query than its least positive less this share of it; "
        "0.05 is the 95 % of TopK-PercPos.",
        ge=0,
    )
    absolute_margin: float | None = setting(
        None, "Refuses what comes closer to the query than its least positive less this."
    )
    max_score: float | None = setting(None, "Refuses what scores above this.")
    min_score: float | None = setting(None, "Refuses what scores below this.")
    equality: Literal["normalised", "exact"] = setting(
        "normalised",
        "When two texts are the same: up to case and white space, or to the character. What is the "
        "same as a positive of the query, in any row, is never a negative, and no row gets two that are "
        "the same.",
    )
    allow_query: bool = setting(False, "Whether a passage that equals the query may be a negative.")
    allow_existing: bool = setting(False, "Whether a mined negative may repeat one that the row already has.")
    too_few: Literal["drop", "existing", "keep", "relax"] = setting(
        "drop",
        "What becomes of a row with too few negatives: it is dropped, stays with the negatives it came "
        "with (dropped when it had none), is kept with fewer, or filters are relaxed for it; always counted.",
    )
    relax: tuple[Filter, ...] = setting(
        ("range_min", "min_score", "relative_margin", "absolute_margin", "max_score"),
        "The filters that `too_few: relax` lets go of, in this order; positives stay refused.",
    )
    passages: Literal["positives", "corpus", "both"] = setting(
        "positives", "What is searched: the dataset's own positives, a given corpus, or both."
    )
    approximate: Approximate | None = setting(None, "Use an approximate index for large corpora.")
    scores: bool = setting(
        False,
        "Write the teacher's score of each text (`pos_scores`, `neg_scores`), for a training that distils; "
        "the cross-encoder's where there is one.",
    )

    @model_validator(mode="after")
    def _window(self) -> "MiningSettings":
        if self.range_max is not None and self.range_max - self.range_min < self.negatives:
            raise ValueError(
                f"the window from range_min {self.range_min} to range_max {self.range_max} holds fewer "
                f"than {self.negatives} candidates"
            )
        if len(set(self.relax)) != len(self.relax):
            raise ValueError("relax lists a filter twice")
        return self


class Teacher(Section):
    """The model whose vectors decide what is near: one of the study's backbones, or a folder."""

    backbone: Name | None = setting(
        None, "A backbone of the study, which may come from a hub; sentence-transformers models too."
    )
    path: str | None = setting(
        None, "A local sentence-transformers model, a backbone or an embedder; a folder."
    )

    @model_validator(mode="after")
    def _at_most_one(self) -> "Teacher":
        if self.backbone and self.path:
            raise ValueError("give one of backbone and path")
        return self


class Margin(Section):
    """Rows chosen by how far their positive is from their hardest negative, by the teacher."""

    preset: Literal["documented", "published"] = setting(
        "documented",
        "documented keeps the rows whose margin is above the threshold; published does what the "
        "authors' code does: it keeps those at or below it, less the one of largest margin among them, "
        "and everything where none is at or below it or the threshold is not positive.",
    )
    threshold: float = setting(0.7, "The margin: positive score less the highest negative score.")
    max_samples: int | None = setting(
        350_000, "Keep at most this many rows, those of largest margin.", unit="rows", ge=1
    )
    negatives: int | None = setting(
        3, "Only rows with exactly so many negatives; unset takes any with at least one.", ge=1
    )
    order: Literal["margin", "file"] = setting(
        "margin", "The order of what stays: largest margin first, or as it came."
    )


class MarginRule(Margin):
    """Which datasets are filtered by margin, and by which teacher."""

    datasets: tuple[Name, ...] = setting((), "The mined datasets that are filtered; none by default.")
    teacher: Teacher = setting(Teacher(), "A teacher of its own; mining's by default.")

    def rules(self) -> Margin:
        """What its command is told: all but the datasets and the teacher, which are inputs."""
        return Margin(**{name: getattr(self, name) for name in Margin.model_fields})


class Mining(MiningSettings):
    """Hard negatives for the datasets that ask for them."""

    teacher: Teacher = setting(Teacher(), "The teacher; `lexical` needs none.")
    corpus: str | None = setting(
        None, 'A file with passages, JSONL rows {"text": …}, for `passages: corpus` or `both`.'
    )
    cross_encoder: str | None = setting(
        None, "A local cross-encoder that scores candidates and positives anew; a folder."
    )
    margin_filter: MarginRule = setting(MarginRule(), "Whether and how mined rows are filtered by margin.")
    judge: Judge = setting(Judge(), "Who says whether a mined negative answers its query after all.")
    audit: Audit = setting(Audit(), "Whether and how the rate of false negatives is estimated.")
    relabel: Relabel = setting(Relabel(), "Whether and how false negatives are taken out or promoted.")
    token_budget: int = setting(
        16384, "Tokens that go through the teacher at once; makes nothing stale.", unit="tokens", ge=16
    )
    requests_at_once: int = setting(
        8, "Requests of each job to the judge's endpoint at once; makes nothing stale.", ge=1
    )

    def problems_in(self, study: Any) -> Iterator[str]:
        """What does not fit the rest of the study."""
        datasets = getattr(getattr(study, "data", None), "datasets", {})
        mined = [name for name, dataset in datasets.items() if dataset.mined]
        sources = [self.lexical, self.teacher.backbone, self.teacher.path]
        given = sum(source is not None for source in sources)
        if mined and given != 1:
            yield (
                f"mining: {'no teacher' if not given else 'more than one teacher'}; datasets are mined "
                f"({', '.join(mined)}), so give one of lexical, teacher.backbone and teacher.path"
            )
        for where, teacher in (("", self.teacher), ("margin_filter.", self.margin_filter.teacher)):
            name = teacher.backbone
            if name is not None and name not in study.backbones:
                yield f"mining.{where}teacher.backbone: {undeclared(name, study.backbones)}"
        if (self.corpus is None) != (self.passages == "positives"):
            yield "mining: `corpus` and `passages: corpus` (or both) go together"
        for section in ("margin_filter", "audit", "relabel"):
            for i, name in enumerate(getattr(self, section).datasets):
                if name not in mined:
                    yield f"mining.{section}.datasets[{i}]: no mined dataset '{name}'{nearest(name, mined)}"
        if (self.audit.datasets or self.relabel.datasets) and not self.judge.given:
            yield "mining: no judge for audit and relabel; give one of judge.chat, .cross_encoder and .rules"
        for name, recipe in getattr(study, "recipes", {}).items():
            drawn = recipe.batches.negatives
            of_recipe = [dataset for dataset in recipe.datasets or datasets if dataset in mined]
            if of_recipe and drawn > self.negatives:
                yield (
                    f"recipes.{name}.batches.negatives: {drawn} are drawn for each query, and "
                    f"mining.negatives is {self.negatives}; raise that or lower this"
                )

    def of(self, project: Project, dataset: str) -> "MineJob":
        """What the rule that mines one dataset needs to know."""
        own = {name: getattr(self, name) for name in MiningSettings.model_fields}
        return MineJob(**own, study=project.name, dataset=dataset, seed=project.seed)

    def audit_job(self, project: Project, dataset: str) -> AuditJob:
        """What the rule that audits one dataset needs to know."""
        own = {name: getattr(self.audit, name) for name in Sampling.model_fields}
        return AuditJob(**own, **self._asking(project, dataset))

    def relabel_job(self, project: Project, dataset: str) -> RelabelJob:
        """What the rule that relabels one dataset needs to know."""
        own = {name: getattr(self.relabel, name) for name in Relabelling.model_fields}
        return RelabelJob(**own, **self._asking(project, dataset))

    def _asking(self, project: Project, dataset: str) -> dict[str, Any]:
        return {"study": project.name, "dataset": dataset, "seed": project.seed, "judge": self.judge}

    def margin_job(self, project: Project) -> "MarginJob":
        """What the rule that filters by margin needs to know."""
        own = {name: getattr(self, name) for name in Teaching.model_fields}
        teacher = self.margin_filter.teacher
        if teacher.backbone or teacher.path:
            own["lexical"] = None
        return MarginJob(**own, margin=self.margin_filter.rules(), seed=project.seed)


class _Costless(Section):
    """A setting that changes only how fast the same result is made."""

    token_budget: int = setting(
        16384, "Tokens that go through the teacher at once.", unit="tokens", stales=False, ge=16
    )


class MineJob(MiningSettings, _Costless):
    """What mining one dataset needs to know."""

    study: str = setting("study", "The study's name, for the tidy table.")
    dataset: str = setting("dataset", "The dataset's name.")
    seed: int = setting(0, "The seed of random choices.", ge=0)


class MarginJob(Teaching, _Costless):
    """What filtering one dataset by margin needs to know."""

    margin: Margin = setting(Margin(), "Which rows stay.")
    seed: int = setting(0, "The seed of a teacher without a model.", ge=0)
