"""The text that a study makes from what is installed: corpora, evaluation sets, problems, probes."""

from collections.abc import Iterator
from importlib import metadata
from typing import Any, Literal

from pydantic import Field, model_validator

from realign.study.base import Name, Section, setting
from realign.study.data import Source
from realign.study.errors import nearest

ProblemTask = Literal[
    "sum", "difference", "chain_sum", "products", "gcd", "lcm", "leg_counting", "word_problem"
]
# Evaluation sets made from the packages that are held out of training.
TASKS = {
    "DocsRetrieval": "retrieval",
    "CodeRetrieval": "retrieval",
    "DocsSTS": "sts",
    "DocsPairClassification": "pair_classification",
    "TopicClassification": "classification",
    "TopicClustering": "clustering",
    "DocsReranking": "reranking",
}
SHAPES = ("summary-description", "description-code", "parameters-function", "example-function")
PROBE_POOL = 400
SPLITS = ("pretrain", "train", "heldout")


class MoreProblems(Source):
    """Questions with worked answers from elsewhere, whose right answer is a number."""

    question: str = setting("question", "The column with the question.")
    answer: str = setting(
        "answer", "The column with the answer: a number, or a worked solution with the number after ####."
    )
    difficulty: int = setting(4, "Where they stand in a curriculum.", ge=1)
    held_out: float = setting(0.2, "Share of them that is kept for measuring the pass rate.", gt=0, lt=1)
    limit: int | None = setting(None, "Keep at most this many, chosen by seed.", unit="problems", ge=2)


class Problems(Section):
    """Reasoning problems with verifiable answers and worked traces."""

    tasks: dict[ProblemTask, float] = setting(
        {"sum": 3.0, "difference": 1.0},
        "The kinds of problem and their relative shares in pretraining, training and held-out problems.",
    )
    probe_tasks: dict[ProblemTask, float] = setting(
        {"sum": 1.0, "chain_sum": 1.0, "gcd": 1.0, "leg_counting": 1.0, "word_problem": 1.0},
        "The kinds of problem and their relative shares in the probe corpus.",
    )
    levels: tuple[int, ...] = setting((1, 2), "The difficulties that occur, 1 (one digit) to 4.")
    pretrain: int = setting(
        2000, "Problems in the pretraining split, where some solutions are wrong.", unit="problems", ge=1
    )
    train: int = setting(1000, "Problems to train on with right solutions or rewards.", unit="problems", ge=1)
    heldout: int = setting(300, "Problems kept for measuring the pass rate.", unit="problems", ge=1)
    solutions: int = setting(
        3, "Solutions of each pretraining problem, each right or wrong on its own.", unit="solutions", ge=1
    )
    wrong_share: float = setting(
        0.5,
        "The share of pretraining solutions that go wrong in a step and end in a wrong answer, "
        "so that reinforcement has something to sharpen.",
        ge=0,
        lt=1,
    )

    further: dict[Name, MoreProblems] = setting(
        {}, "Problems from elsewhere by name, such as GSM8K, added to those to train on and held out."
    )

    @model_validator(mode="after")
    def _usable(self) -> "Problems":
        for name in ("tasks", "probe_tasks"):
            shares = getattr(self, name)
            if not shares or min(shares.values()) <= 0:
                raise ValueError(f"{name}: give at least one kind of problem, each with a share above 0")
        if not self.levels or min(self.levels) < 1 or max(self.levels) > 4:
            raise ValueError("levels: give difficulties from 1 to 4")
        return self


class ProbeCorpus(Source):
    """A corpus whose texts' hidden states are compared: where it comes from, how much of it is taken."""

    embedded: Literal["reasoning", "docs"] | None = setting(
        None, "Problems with worked traces, or documentation of the held-out packages."
    )
    text: str = setting("text", "The column with the text.")
    label: str | None = setting(None, "The column with a label for probes; embedded corpora bring their own.")
    where: dict[str, str | int | float | bool] = setting(
        {}, "Only rows in which each of these columns has this value."
    )
    limit: int = setting(128, "Take at most this many texts, chosen by seed.", unit="texts", ge=2)
    max_characters: int | None = setting(
        None, "Leave out longer texts; the embedded corpora are cut to about 400 on their own.",
        unit="characters", ge=1,
    )  # fmt: skip
    min_characters: int = setting(1, "Leave out shorter texts.", unit="characters", ge=1)

    @property
    def labelled_by(self) -> str | None:
        """What a text's label says: the column's name, or what an embedded corpus brings."""
        return {"reasoning": "task", "docs": "topic"}[self.embedded] if self.embedded else self.label


class Text(Section):
    """Corpora made from the documentation and the source of installed packages, and probe corpora."""

    train_packages: tuple[str, ...] = setting(
        ("numpy", "scipy", "pandas", "matplotlib", "sympy"),
        "Installed packages whose text is trained on.",
    )
    heldout_packages: tuple[str, ...] = setting(
        ("scikit-learn", "networkx"), "Installed packages that only evaluation sets and probes are made from."
    )
    pretrain_mb: float = setting(3.0, "Text for pretraining a small language model.", unit="MB", gt=0)
    pretrain_code_share: float = setting(0.15, "The share of code in it.", ge=0, le=1)
    pairs: int = setting(3000, "Pairs at most in each embedded training set.", unit="rows", ge=1)
    max_characters: int = setting(
        1200, "Longer passages are cut at the end of a sentence or line.", unit="characters", ge=200
    )
    queries: int = setting(400, "Queries in each retrieval set.", unit="queries", ge=1)
    corpus: int = setting(
        600, "Passages in each retrieval corpus, the answers included.", unit="passages", ge=1
    )
    items: int = setting(
        400,
        "Items in each of the other evaluation sets; half as many in reranking sets, with ten passages each.",
        unit="items",
        ge=20,
    )
    topics: int = setting(6, "Topics in the classification and clustering sets.", unit="topics", ge=2)
    problems: Problems = Field(Problems(), description="Reasoning problems.")
    probes: dict[Name, ProbeCorpus] = Field(
        {"reasoning": ProbeCorpus(embedded="reasoning"), "docs": ProbeCorpus(embedded="docs")},
        description="Probe corpora by name.",
    )

    @model_validator(mode="after")
    def _sound(self) -> "Text":
        if both := sorted(set(self.train_packages) & set(self.heldout_packages)):
            raise ValueError(f"{', '.join(both)}: a package cannot be trained on and held out")
        if not self.train_packages:
            raise ValueError("train_packages needs a package")
        if len(self.heldout_packages) < 2:
            raise ValueError("heldout_packages needs two packages, which unrelated pairs are drawn from")
        if self.corpus < self.queries:
            raise ValueError("corpus: a retrieval corpus holds at least one passage for each query")
        return self

    def problems_in(self, study: Any) -> Iterator[str]:
        """Packages that are not installed, and hub datasets of one name."""
        yield from self._package_problems()
        yield from self._name_problems(study)

    def _package_problems(self) -> Iterator[str]:
        """Packages that the study names itself; a default may be missing where no text is made of it."""
        for key in ("train_packages", "heldout_packages"):
            given = getattr(self, key)
            if given == type(self).model_fields[key].default:
                continue
            for i, package in enumerate(given):
                if not installed(package):
                    known = [str(found.name) for found in metadata.distributions()]
                    yield f"text.{key}[{i}]: '{package}' is not installed here{nearest(package, known)}"

    def _name_problems(self, study: Any) -> Iterator[str]:
        """A hub dataset is fetched under its name, so one name cannot stand for two of them."""
        known = {name: ("data.datasets", source.hub) for name, source in study.data.datasets.items()}
        for section, sources in (("probes", self.probes), ("problems.further", self.problems.further)):
            for name, source in sorted(sources.items()):
                where, there = known.setdefault(name, (f"text.{section}", source.hub))
                if source.hub and there and source.hub != there:
                    yield f"text.{section}.{name}.hub: {where}.{name} is another dataset of that name"
        for name, source in sorted(study.traces.released.items()):
            where, there = known.get(name, ("", None))
            if there and source != there:
                yield f"traces.released.{name}: {where}.{name} is another dataset of that name"


class CorporaJob(Section):
    """What the rule that reads the installed packages needs to know; versions stand for their text."""

    train_packages: dict[str, str] = setting(..., "Packages to train on, with their installed versions.")
    heldout_packages: dict[str, str] = setting(..., "Packages held out, with their installed versions.")
    pretrain_mb: float = setting(3.0, "Text for pretraining.", unit="MB", gt=0)
    pretrain_code_share: float = setting(0.15, "The share of code in it.", ge=0, le=1)
    pairs: int = setting(3000, "Pairs at most in each set.", unit="rows", ge=1)
    max_characters: int = setting(1200, "Longer passages are cut.", unit="characters", ge=200)
    queries: int = setting(400, "Queries in each retrieval set.", unit="queries", ge=1)
    corpus: int = setting(600, "Passages in each retrieval corpus.", unit="passages", ge=1)
    items: int = setting(400, "Items in each other set.", unit="items", ge=20)
    topics: int = setting(6, "Topics in classification and clustering.", unit="topics", ge=2)
    seed: int = setting(0, "The study's seed.", ge=0)


class ProblemsJob(Section):
    """What the rule that makes reasoning problems needs to know."""

    problems: Problems = Field(Problems(), description="Kinds, levels and sizes.")
    generators: str = setting("", "The installed version of reasoning-gym, some of whose problems are used.")
    probe: int = setting(
        PROBE_POOL, "Problems made for the probe corpus to choose from.", unit="problems", ge=1
    )
    seed: int = setting(0, "The study's seed.", ge=0)


class ProbeJob(Section):
    """What the rule that makes a probe corpus needs to know."""

    corpus: ProbeCorpus = Field(description="The corpus.")
    seed: int = setting(0, "The seed that chooses texts.", ge=0)


def output_of(shape: str) -> str:
    """What the rule and the command call the file of a shape."""
    return shape.replace("-", "_")


def installed(package: str) -> str:
    """The installed version of a package; empty where it is missing, which its user then reports."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def corpora_job(text: Text, seed: int) -> CorporaJob:
    """The slice of the rule `corpora`: sizes, and the versions of the packages that it reads."""
    shared = {k: getattr(text, k) for k in CorporaJob.model_fields if hasattr(text, k)}
    return CorporaJob(
        **shared
        | {
            "train_packages": {p: installed(p) for p in text.train_packages},
            "heldout_packages": {p: installed(p) for p in text.heldout_packages},
            "seed": seed,
        }
    )


def problems_job(text: Text, seed: int) -> ProblemsJob:
    """The slice of the rule `problems`; probe corpora choose from twice as many as they want."""
    wanted = [2 * corpus.limit for corpus in text.probes.values() if corpus.embedded == "reasoning"]
    return ProblemsJob(
        problems=text.problems,
        generators=installed("reasoning-gym"),
        probe=max([PROBE_POOL, *wanted]),
        seed=seed,
    )
