"""How embedders are judged: which benchmarks and tasks, with which instructions, in which numbers.

`Evaluation` is what a study says; `EvaluateTask` is the slice that one model × task job gets, and
`CollectScores` the slice that gathers a model's scores into one table.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import PositiveInt, StringConstraints, field_validator, model_validator

from realign.study.base import Name, Section, setting
from realign.study.benchmarks import benchmarks, tasks
from realign.study.errors import nearest
from realign.study.text import TASKS

TaskType = Literal["retrieval", "reranking", "sts", "pair_classification", "classification", "clustering"]
Instructions = Literal["task", "model", "none"]
Dtype = Literal["float32", "bfloat16", "float16"]

Columns = dict[str, str | PositiveInt]  # the files' own column names, or numbers, by the task's names

# The files of a task of one's own, each with the columns that the task takes from it.
TASK_FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "retrieval": {
        "corpus": ("id", "text", "title"),
        "queries": ("id", "text"),
        "qrels": ("query", "doc", "score"),
    },
    "reranking": {"test": ("query", "positive", "negative")},
    "sts": {"test": ("sentence1", "sentence2", "score")},
    "pair_classification": {"test": ("sentence1", "sentence2", "label")},
    "classification": {"train": ("text", "label"), "test": ("text", "label")},
    "clustering": {"test": ("text", "label")},
}

# Task files may be given in any of these formats; the first that exists is taken.
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv", ".tsv", ".parquet")

WARM_DONE = "done"  # what a report says of a task that was evaluated

# What may be changed about a task of one's own: mteb's names for the numbers of its types.
TASK_OPTIONS: dict[str, tuple[str, ...]] = {
    "retrieval": (),
    "reranking": (),
    "sts": (),
    "pair_classification": (),
    "classification": ("samples_per_label", "n_experiments"),
    "clustering": ("max_documents_per_cluster", "max_document_to_embed", "n_clusters"),
}

# A benchmark's or a task's name as mteb spells it: never a path, never a shell's word.
BenchmarkName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._,()+-]*$", max_length=80)]


def unknown_prompts(where: str, given: Iterable[str], own: Iterable[str]) -> Iterator[str]:
    """A line for each name in a set of instructions that is no task's name."""
    known = {*tasks(), *own, "default"}
    for name in given:
        if name not in known:
            yield f"{where}: no task '{name}'{nearest(name, known)}"


def _held_out_problems(where: str, name: str, study: Any) -> Iterator[str]:
    datasets = study.data.datasets
    if name not in datasets:
        yield f"{where}: no dataset '{name}'{nearest(name, datasets)}"
    elif not datasets[name].held_out:
        yield f"{where}: nothing of '{name}' is held out; set data.datasets.{name}.held_out"


def _embedded_problems(where: str, task: "TaskFiles") -> Iterator[str]:
    kind = TASKS.get(task.embedded or "")
    if kind is None:
        yield f"{where}.embedded: no embedded task '{task.embedded}'{nearest(str(task.embedded), TASKS)}"
    elif kind != task.type:
        yield f"{where}.type: '{task.embedded}' is a {kind} task (got {task.type})"


def bright_task(domain: str) -> str | None:
    """The task of a BRIGHT domain, e.g. earth_science."""
    wanted = f"bright{domain}retrieval".replace("_", "").lower()
    return next((task for task in benchmarks()["BRIGHT"] if task.lower() == wanted), None)


class Instruction(Section):
    """What a model is told before a query, and before a passage; passages are told nothing by default."""

    query: str = setting("", "The instruction for queries, and for texts of tasks without passages.")
    passage: str = setting("", "The instruction for passages.")


class TaskFiles(Section):
    """A task of one's own, from local files, embedded texts, or a dataset's held-out rows."""

    type: TaskType = setting(..., "What kind of task it is.")
    embedded: Name | None = setting(None, "The embedded task whose texts these are.")
    dataset: Name | None = setting(
        None, "The training dataset whose held-out rows it is made of, as a retrieval task."
    )
    path: str | None = setting(None, "A folder that holds the files (JSONL, CSV, TSV or Parquet).")
    files: dict[str, str] = setting(
        {}, "File names in that folder by role: corpus, queries, qrels, train, test."
    )
    columns: dict[str, str | PositiveInt | Columns] = setting(
        {},
        "The files' own column names by the names that the task uses, for all files or by file; numbers, "
        "from 1, where a CSV or TSV file has no header.",
    )
    quotes: bool = setting(True, "Whether a cell of a CSV or TSV file may stand in double quotes.")
    languages: tuple[str, ...] = setting(("eng-Latn",), "Languages of the texts, as ISO 639-3 and script.")
    domains: tuple[str, ...] = setting((), "Domains of the texts, as mteb names them.")
    score_range: tuple[float, float] = setting((0.0, 5.0), "The lowest and highest score of an STS task.")
    options: dict[str, int] = setting(
        {}, "mteb's numbers for the type, e.g. samples_per_label, n_experiments."
    )
    benchmark: BenchmarkName = setting("custom", "The name under which such tasks are averaged.")

    @model_validator(mode="after")
    def _one_source(self) -> "TaskFiles":
        if sum(given is not None for given in (self.embedded, self.dataset, self.path)) != 1:
            raise ValueError("give exactly one of embedded, dataset and path")
        if self.dataset is not None and self.type != "retrieval":
            raise ValueError("a dataset's held-out rows make a retrieval task and no other")
        if self.path is None and (self.files or self.columns):
            raise ValueError("files and columns go with path, since the files of other tasks are made here")
        roles = TASK_FILES[self.type]
        for role in self.files:
            if role not in roles:
                raise ValueError(f"a {self.type} task has no file '{role}' (its files: {', '.join(roles)})")
        for name in self.options:
            if name not in TASK_OPTIONS[self.type]:
                known = ", ".join(TASK_OPTIONS[self.type]) or "none"
                raise ValueError(f"a {self.type} task has no option '{name}' (its options: {known})")
        low, high = self.score_range
        if low >= high:
            raise ValueError("score_range: the lowest score comes first")
        return self

    @model_validator(mode="after")
    def _known_columns(self) -> "TaskFiles":
        files = TASK_FILES[self.type]
        anywhere = {name for names in files.values() for name in names}
        for name, given in self.columns.items():
            by_file = isinstance(given, dict)
            if by_file and name not in files:
                raise ValueError(f"columns: a {self.type} task has no file '{name}'{nearest(name, files)}")
            known = files[name] if by_file else anywhere
            for column in given if isinstance(given, dict) else [name]:
                if column not in known:
                    hint = nearest(column, known) or f" (its columns: {', '.join(sorted(known))})"
                    where = f"columns.{name}" if by_file else "columns"
                    raise ValueError(f"{where}: a {self.type} task takes no column '{column}'{hint}")
        return self

    def columns_by_file(self) -> dict[str, Columns]:
        """For each file the columns that it names otherwise; those of all files go below its own."""
        everywhere = {name: column for name, column in self.columns.items() if not isinstance(column, dict)}
        own = {name: columns for name, columns in self.columns.items() if isinstance(columns, dict)}
        found = {
            file: {name: c for name, c in (everywhere | own.get(file, {})).items() if name in names}
            for file, names in TASK_FILES[self.type].items()
        }
        return {file: columns for file, columns in found.items() if columns}


class Vectors(Section):
    """Vectors kept on disk, so that a text that several tasks share is encoded once per model."""

    dtype: Literal["float32", "float16"] = setting(
        "float32", "How vectors are kept; float16 halves the space and rounds every score's vectors alike."
    )
    limit_gb: float = setting(20.0, "Disk space for the vectors of one model; 0 keeps none.", "GB", ge=0)


class Quirks(Section):
    """Published habits that change the numbers; each is off, and shown side by side when on."""

    one_bright_instruction: str = setting(
        "", "Also evaluate every BRIGHT domain with this one domain's instruction, e.g. aops; empty: do not."
    )
    first_split_only: bool = setting(False, "Also report means over the first split of each task only.")
    mean_over_present: bool = setting(False, "Let scores_partial also report means over whatever is there.")


class Evaluation(Section):
    """Which tasks every embedder of the study is evaluated on, and how."""

    benchmarks: tuple[BenchmarkName, ...] = setting(
        (), "Benchmarks by mteb's name; BRIGHT is its twelve short domains, RTEB the current beta."
    )
    mteb_tasks: tuple[BenchmarkName, ...] = setting((), "Further tasks by mteb's name, averaged together.")
    tasks: dict[Name, TaskFiles] = setting({}, "Tasks of one's own, by name.")
    instructions: Instructions = setting(
        "task",
        "task: each query gets its task's instruction through the template; "
        "model: the prompts that the model's own directory carries; none: bare texts.",
    )
    template: str = setting(
        "Instruct: {instruction}\nQuery: ", "How an instruction becomes the words before a query."
    )
    prompts: dict[str, str | Instruction] = setting(
        {}, "Instructions by task name that replace the tasks' own; 'default' serves all other tasks."
    )
    prompts_file: str | None = setting(None, "A JSON file of such instructions; `prompts` goes over it.")
    max_length: int = setting(
        512, "Texts are cut to this many tokens; 0 keeps the model's own limit.", "tokens", ge=0
    )
    dtype: Dtype = setting("float32", "The number format that models compute in.")
    seed: int = setting(42, "The seed of the tasks' own sampling; mteb's default.", ge=0)
    backbones: bool = setting(False, "Evaluate the untrained, mean-pooled backbones too.")
    checkpoints: bool = setting(False, "Evaluate the declared checkpoints of the first seed too.")
    warm_below: int = setting(
        20_000,
        "Tasks with at most this many texts share one process per model; 0 turns that off.",
        "texts",
        ge=0,
    )
    vectors: Vectors = setting(Vectors(), "Vectors kept on disk.")
    quirks: Quirks = setting(Quirks(), "Published habits, off by default.")

    def problems_in(self, study: Any) -> Iterator[str]:
        """What is wrong with the names of benchmarks and tasks, a line each."""
        for key, known in (("benchmarks", benchmarks()), ("mteb_tasks", tasks())):
            for i, name in enumerate(getattr(self, key)):
                if name not in known:
                    yield f"evaluation.{key}[{i}]: mteb has no '{name}' for text{nearest(name, known)}"
        asked = {task for name in self.benchmarks for task in benchmarks().get(name, {})} | {*self.mteb_tasks}
        for name in self.tasks:
            if name in asked:
                yield f"evaluation.tasks.{name}: a task of mteb's that is also asked for has this name"
        for name, task in self.tasks.items():
            if task.dataset is not None:
                yield from _held_out_problems(f"evaluation.tasks.{name}.dataset", task.dataset, study)
            if task.embedded is not None:
                yield from _embedded_problems(f"evaluation.tasks.{name}", task)
        yield from unknown_prompts("evaluation.prompts", self.prompts, self.tasks)
        domain = self.quirks.one_bright_instruction
        if domain and bright_task(domain) is None:
            yield f"evaluation.quirks.one_bright_instruction: BRIGHT has no domain '{domain}'"
        if domain and "BRIGHT" not in self.benchmarks:
            yield "evaluation.quirks.one_bright_instruction: BRIGHT is not among evaluation.benchmarks"
        if self.instructions != "task":
            instructed = {"prompts": self.prompts, "prompts_file": self.prompts_file}
            for key, given in (instructed | {"quirks.one_bright_instruction": domain}).items():
                if given:
                    mode = f"'{self.instructions}' and not 'task'"
                    yield f"evaluation.{key}: goes before no text, since instructions is {mode}"

    @field_validator("template")
    @classmethod
    def _template(cls, template: str) -> str:
        if re.findall(r"\{[^}]*\}", template) != ["{instruction}"]:
            raise ValueError("the template holds {instruction} once and no other braces")
        return template


class TaskSource(Section):
    """One task: where its texts come from, and the part of it that is evaluated."""

    task: Name = setting(..., "The task's name.")
    type: TaskType | None = setting(None, "The kind of a task that is given by files; none for mteb's own.")
    revision: str = setting("", "The pinned revision of an mteb task's dataset.")
    splits: tuple[str, ...] = setting((), "The splits to evaluate; none: the task's own.")
    subsets: tuple[str, ...] = setting((), "The subsets to evaluate; none: all.")
    files: dict[str, str] = setting({}, "File names by role, where they differ from the usual ones.")
    columns: dict[str, Columns] = setting(
        {}, "By file, its own column names or numbers by the names that the task uses."
    )
    quotes: bool = setting(True, "Whether a cell of a CSV or TSV file may stand in double quotes.")
    languages: tuple[str, ...] = setting((), "Languages of a task that is given by files.")
    domains: tuple[str, ...] = setting((), "Domains of a task that is given by files.")
    score_range: tuple[float, float] = setting((0.0, 5.0), "The lowest and highest score of an STS task.")
    options: dict[str, int] = setting({}, "mteb's numbers for the type of a task that is given by files.")
    instruction: Instruction | None = setting(None, "Instructions that replace the task's own.")
    instruction_of: str = setting("", "The task whose own instruction is used instead of this one's.")
    preset: str = setting("", "The published habit that this evaluation follows; none: ours.")


class EvaluateTask(TaskSource):
    """The slice of one model × task job."""

    model_name: str = setting("model", "The model's name in mteb's result files.")
    instructions: Instructions = setting("model", "Which words go before a text: task, model or none.")
    template: str = setting(
        "Instruct: {instruction}\nQuery: ", "How an instruction becomes the words before a query."
    )
    max_length: int = setting(
        0, "Texts are cut to this many tokens; 0 keeps the model's own limit.", "tokens", ge=0
    )
    dtype: Dtype = setting("float32", "The number format that the model computes in.")
    seed: int = setting(42, "The seed of the task's own sampling.", ge=0)
    vectors: Literal["float32", "float16"] = setting("float32", "How vectors are kept on disk.")
    mteb_version: str = setting("", "The version of mteb that was planned with; empty: whichever is here.")


class EvaluateWarm(Section):
    """The slice of a job that evaluates many small tasks of one model in one process."""

    common: EvaluateTask = setting(..., "What all the tasks share; its task is left open.")
    tasks: tuple[TaskSource, ...] = setting(..., "The tasks.")
    counts: tuple[int, ...] = setting(..., "How many data files each task has, in the order they are given.")


class FetchTask(Section):
    """The slice of a job that fetches one mteb task's dataset."""

    task: Name = setting(..., "The task's name.")
    revision: str = setting(..., "The pinned revision of its dataset.")
    mteb_version: str = setting("", "The version of mteb that was planned with; empty: whichever is here.")


class BenchmarkPart(Section):
    """The part of a task that counts for a benchmark."""

    splits: tuple[str, ...] = setting((), "The splits that count; none: all that the task evaluates.")
    subsets: tuple[str, ...] = setting((), "The subsets that count; none: all.")


class CollectScores(Section):
    """The slice of the job that gathers one model's scores."""

    study: Name = setting(..., "The study's name.")
    model: str = setting(..., "The embedder's or backbone's name.")
    benchmarks: dict[str, dict[str, BenchmarkPart]] = setting(..., "The tasks of each benchmark.")
    presets: tuple[str, ...] = setting((), "Published habits that BRIGHT is evaluated with once more.")
    first_split_only: bool = setting(False, "Also report means over the first split of each task only.")
    mean_over_present: bool = setting(False, "Also report means over whatever is there.")
    partial: bool = setting(False, "Collect what is there and list the holes, instead of asking for all.")
