"""What a study's evaluation amounts to: which models, which tasks, and each job's settings.

The workflow plans its jobs from here, and so does the command line; nothing here reads a model or
imports mteb.
"""

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from realign.names import is_embedder
from realign.plan.targets import checkpoints, embedders, seeds_of
from realign.study.benchmarks import benchmarks, installed_mteb, tasks
from realign.study.errors import StudyError
from realign.study.evaluation import (
    SUFFIXES,
    TASK_FILES,
    BenchmarkPart,
    CollectScores,
    EvaluateTask,
    EvaluateWarm,
    Evaluation,
    FetchTask,
    Instruction,
    TaskFiles,
    TaskSource,
    bright_task,
    unknown_prompts,
)
from realign.study.study import Study

ONE_INSTRUCTION = "one_bright_instruction"


@dataclass(frozen=True)
class Planned:
    """One task of a study: where it comes from, and which benchmarks count which part of it."""

    source: TaskSource
    parts: Mapping[str, BenchmarkPart] = field(default_factory=dict)
    files: TaskFiles | None = None

    @property
    def texts(self) -> int | None:
        """How many texts it holds; nothing where that is not known before it is read."""
        return 0 if self.files else tasks()[self.source.task]["texts"]


def evaluated_models(study: Study) -> list[str]:
    """Every model that the study evaluates: embedders, and if asked for checkpoints and backbones."""
    asked: Evaluation = study.evaluation
    if not (asked.benchmarks or asked.mteb_tasks or asked.tasks):
        return []
    models = [str(e) for e in embedders(study)]
    if asked.checkpoints:
        models += [str(c) for c in checkpoints(study) if c.seed == seeds_of(study, c.recipe)[0]]
    if asked.backbones:
        models += list(study.backbones)
    return models


def planned_tasks(asked: Evaluation) -> dict[str, Planned]:
    """The tasks of an evaluation by the name of their results, each once."""
    instructions = read_prompts(asked)
    planned: dict[str, Planned] = {}
    for name, parts in _parts(asked).items():
        source = _mteb_source(name, list(parts.values()), instructions)
        planned[name] = Planned(source, parts)
    for name, files in asked.tasks.items():
        planned[name] = Planned(
            _file_source(name, files, instructions), {files.benchmark: BenchmarkPart()}, files
        )
    if domain := asked.quirks.one_bright_instruction:
        planned |= _one_instruction(planned, bright_task(domain) or "")
    return planned


def _parts(asked: Evaluation) -> dict[str, dict[str, BenchmarkPart]]:
    wanted = {name: benchmarks()[name] for name in asked.benchmarks}
    if asked.mteb_tasks:
        wanted["tasks"] = {name: {} for name in asked.mteb_tasks}
    parts: dict[str, dict[str, BenchmarkPart]] = {}
    for benchmark, members in wanted.items():
        for task, part in members.items():
            parts.setdefault(task, {})[benchmark] = BenchmarkPart.model_validate(part)
    return parts


def _mteb_source(
    name: str, parts: list[BenchmarkPart], instructions: Mapping[str, Instruction]
) -> TaskSource:
    return TaskSource(
        task=name,
        revision=tasks()[name]["revision"],
        splits=_union(part.splits for part in parts),
        subsets=_union(part.subsets for part in parts),
        instruction=instructions.get(name, instructions.get("default")),
    )


def _union(lists: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """What several benchmarks need of a task together; an empty list means all of it."""
    given = list(lists)
    return tuple(dict.fromkeys(x for one in given for x in one)) if all(given) else ()


def _file_source(name: str, files: TaskFiles, instructions: Mapping[str, Instruction]) -> TaskSource:
    return TaskSource(
        task=name,
        type=files.type,
        files=files.files,
        columns=files.columns_by_file(),
        quotes=files.quotes,
        languages=files.languages,
        domains=files.domains,
        score_range=files.score_range,
        options=files.options,
        instruction=instructions.get(name, instructions.get("default")),
    )


def _one_instruction(planned: Mapping[str, Planned], taught: str) -> dict[str, Planned]:
    """BRIGHT once more, every domain with the instruction of one, as the study gives that one."""
    if taught not in planned:
        return {}
    told = {"instruction": planned[taught].source.instruction, "instruction_of": taught}
    return {
        f"{name}--one-instruction": Planned(
            planned[name].source.model_copy(update=told | {"preset": ONE_INSTRUCTION}),
            {"BRIGHT": planned[name].parts["BRIGHT"]},
        )
        for name in planned
        if "BRIGHT" in planned[name].parts
    }


def read_prompts(asked: Evaluation) -> dict[str, Instruction]:
    """The instructions that a study gives by task name, from its file and from the study itself."""
    given: dict[str, Any] = {}
    if asked.prompts_file:
        given = parse_prompts(Path(asked.prompts_file), asked.tasks)
    given |= asked.prompts
    return {name: Instruction(query=x) if isinstance(x, str) else x for name, x in given.items()}


def with_prompts(study: Study) -> Study:
    """The study with the instructions of its file in itself: a run freezes them with the rest."""
    asked = study.evaluation
    if not asked.prompts_file:
        return study
    told = asked.model_copy(update={"prompts": read_prompts(asked), "prompts_file": None})
    return study.model_copy(update={"evaluation": told})


def parse_prompts(path: Path, own: Iterable[str]) -> dict[str, Instruction]:
    """The instructions in a JSON file: task name → words, or {"query": …, "passage": …}."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(path, ["no such file (evaluation.prompts_file)"]) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StudyError(path, [f"not JSON: {error}"]) from None
    if not isinstance(content, dict):
        raise StudyError(path, ["a JSON object of task names and instructions is expected"])
    problems = list(unknown_prompts("task names", content, own))
    prompts = {}
    for name, value in content.items():
        words = {"query": value} if isinstance(value, str) else value
        if not isinstance(words, dict) or not words or set(words) - {"query", "passage"}:
            problems.append(f"'{name}': words, or an object with 'query' and 'passage', are expected")
        elif not all(isinstance(x, str) for x in words.values()):
            problems.append(f"'{name}': an instruction is text")
        else:
            prompts[name] = Instruction(**words)
    if problems:
        raise StudyError(path, problems)
    return prompts


def common_settings(asked: Evaluation, model: str) -> EvaluateTask:
    """What all evaluations of one model share; the task is left open."""
    return EvaluateTask(
        task="open",
        model_name=model,
        instructions=asked.instructions,
        template=asked.template,
        max_length=asked.max_length,
        dtype=asked.dtype,
        seed=asked.seed,
        vectors=asked.vectors.dtype,
        mteb_version=installed_mteb(),
    )


def task_settings(asked: Evaluation, model: str, source: TaskSource) -> EvaluateTask:
    """The settings of one model × task job."""
    return EvaluateTask.model_validate(common_settings(asked, model).model_dump() | source.model_dump())


def task_files(planned: Planned, root: str) -> list[str]:
    """What a task's evaluation reads: a folder made here, files, or a fetched dataset's record."""
    if planned.files is None:
        return [f"{root}/datasets/{planned.source.task}.json"]
    if planned.files.embedded is not None:
        return [f"{root}/text/tasks/{planned.files.embedded}"]
    if planned.files.dataset is not None:
        return [f"{root}/text/heldout/{planned.files.dataset}"]
    roles = TASK_FILES[planned.files.type]
    return [str(find_file(planned.source.task, planned.files, role)) for role in roles]


def find_file(task: str, files: TaskFiles, role: str) -> Path:
    """The file of a task of one's own that plays a role; BEIR keeps its qrels in a folder, by split."""
    folder = Path(files.path or ".")
    if role in files.files:
        return folder / files.files[role]
    names = [role, "qrels/test"] if role == "qrels" else [role]
    found = next((p for n in names for s in SUFFIXES if (p := folder / f"{n}{s}").is_file()), None)
    if found is not None:
        return found
    if folder.is_file():
        problem = (
            f"path: {folder} is a file; give its folder, and its name as files: {{{role}: {folder.name}}}"
        )
    elif not folder.is_dir():
        problem = f"path: there is no folder {folder.absolute()}"
    else:
        wanted = f"holds no file {' or '.join(map(repr, names))} ({', '.join(SUFFIXES)})"
        problem = f"files: {folder} {wanted}; name the file, as in files: {{{role}: NAME}}"
    raise StudyError(f"evaluation.tasks.{task}", [problem])


class EvaluationPlan:
    """A study's evaluation, ready to be asked for each job's inputs and settings."""

    def __init__(self, study: Study, root: str):
        self.study, self.root = study, root
        self.asked: Evaluation = study.evaluation

    @functools.cached_property
    def models(self) -> list[str]:
        """Every evaluated model."""
        return evaluated_models(self.study)

    @functools.cached_property
    def tasks(self) -> dict[str, Planned]:
        """Every task by the name of its results."""
        return planned_tasks(self.asked)

    @functools.cached_property
    def warm(self) -> list[str]:
        """The tasks that share one process per model."""
        limit = self.asked.warm_below
        small = [n for n, p in self.tasks.items() if p.texts is not None and p.texts <= limit]
        return small if limit and len(small) > 1 else []

    def model_path(self, model: str) -> str:
        """Where a model lies."""
        kind = "embedders" if is_embedder(model) else "backbones"
        return f"{self.root}/{kind}/{model}/model"

    def data(self, task: str) -> list[str]:
        """What a task's evaluation reads, as its command takes it."""
        return task_files(self.tasks[task], self.root)

    def is_folder(self, task: str) -> bool:
        """Whether that is a folder with a manifest."""
        files = self.tasks[task].files
        return files is not None and files.path is None

    def settings(self, model: str, task: str) -> EvaluateTask:
        """The settings of one model × task job."""
        return task_settings(self.asked, model, self.tasks[task].source)

    def warm_settings(self, model: str) -> EvaluateWarm:
        """The settings of the job that evaluates a model's small tasks in one process."""
        return EvaluateWarm(
            common=common_settings(self.asked, model),
            tasks=tuple(self.tasks[task].source for task in self.warm),
            counts=tuple(len(self.data(task)) for task in self.warm),
        )

    def fetch_settings(self, task: str) -> FetchTask:
        """The settings of the job that fetches one mteb task's dataset."""
        return FetchTask(task=task, revision=tasks()[task]["revision"], mteb_version=installed_mteb())

    def scores(self, model: str) -> list[str]:
        """Every score file of a model."""
        return [f"{self.root}/scores/{model}/{task}.json" for task in self.tasks]

    def records(self, model: str) -> list[str]:
        """The record beside each score file: what was really prefixed, and where the task came from."""
        return [f"{self.root}/scores/{model}/records/{task}.json" for task in self.tasks]

    def queries(self, model: str) -> list[str]:
        """The scores of single queries beside each score file; without rows where a task has none."""
        return [f"{self.root}/scores/{model}/queries/{task}.parquet" for task in self.tasks]

    def collect_settings(self, model: str, partial: bool = False) -> CollectScores:
        """The settings of the job that gathers a model's scores."""
        members: dict[str, dict[str, BenchmarkPart]] = {}
        for planned in self.tasks.values():
            for benchmark, part in planned.parts.items():
                members.setdefault(benchmark, {})[planned.source.task] = part
        quirks = self.asked.quirks
        return CollectScores(
            study=self.study.study.name,
            model=model,
            benchmarks=members,
            presets=(ONE_INSTRUCTION,) if quirks.one_bright_instruction and "BRIGHT" in members else (),
            first_split_only=quirks.first_split_only,
            mean_over_present=quirks.mean_over_present and partial,
            partial=partial,
        )
