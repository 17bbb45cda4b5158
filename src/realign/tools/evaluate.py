"""`realign evaluate` for people: any sentence-transformers directory, any tasks, a table at the end.

The work is done task by task by the same command that the workflow runs, under the same keys, so
that what was evaluated once is published in seconds.
"""

import argparse
import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from realign.artifacts.command import Interrupted, UserError, execute
from realign.artifacts.errors import KEPT
from realign.artifacts.store import WorkStore
from realign.engine.logs import start_logging
from realign.evaluation.commands import EVALUATE
from realign.plan.evaluations import Planned, parse_prompts, planned_tasks, task_files, task_settings
from realign.runs.flow import have_a_cache
from realign.study.benchmarks import benchmarks, planned_mteb, tasks
from realign.study.errors import StudyError, describe, nearest
from realign.study.evaluation import CollectScores, Evaluation

log = logging.getLogger(__name__)

FLAGS: dict[str, dict[str, Any]] = {
    "model": {"metavar": "DIR", "help": "a backbone, an embedder, or any sentence-transformers directory"},
    "tasks": {
        "metavar": "NAME",
        "nargs": "+",
        "default": [],
        "help": "tasks and benchmarks by mteb's name, tasks of --task-file (all of them if none is named)",
    },
    "task-file": {
        "metavar": "YAML",
        "help": "tasks of your own: name → type, path, columns, as under evaluation.tasks of a study; "
        "paths are relative to this file",
    },
    "list": {
        "metavar": "BENCHMARK",
        "nargs": "?",
        "const": "",
        "help": "list the benchmarks with their counts, or one benchmark's tasks, and stop",
    },
    "out": {"metavar": "DIR", "help": "where results go (default: results/evaluate/MODEL)"},
    "prompts": {
        "metavar": "JSON",
        "help": 'task name → instruction, or {"query": …, "passage": …}; implies --instructions task',
    },
    "instructions": {
        "choices": ("task", "model", "none"),
        "help": "which words go before a text: the task's instruction through the template, the model's "
        "own prompts (default), or none",
    },
    "template": {"default": Evaluation().template, "help": "how an instruction is written (%(default)r)"},
    "max-length": {"type": int, "default": 0, "help": "cut texts to so many tokens (default: the model's)"},
    "dtype": {"choices": ("float32", "bfloat16", "float16"), "default": "float32", "help": "(%(default)s)"},
    "seed": {"type": int, "default": 42, "help": "seed of the tasks' own sampling (%(default)s)"},
    "fetch": {"action": "store_true", "help": "first fetch the datasets that mteb's tasks need"},
    "store": {"metavar": "DIR", "default": "results/.work", "help": "work store (%(default)s)"},
    "log": {"metavar": "FILE", "help": "also write the log to this file"},
    "threads": {"type": int, "default": 0, "help": "CPU threads (default: the machine's)"},
    "force": {"action": "store_true", "help": "evaluate again even what is already evaluated"},
}
PATHS = ("model", "task-file", "out", "prompts", "store", "log")


def parser() -> argparse.ArgumentParser:
    """The flags that people give."""
    made = argparse.ArgumentParser(
        "realign evaluate",
        description="Evaluate a model on tasks and benchmarks.",
        allow_abbrev=False,
    )
    for name, about in FLAGS.items():
        made.add_argument(f"--{name}", **(about | {"type": Path} if name in PATHS else about))
    return made


def main(words: Sequence[str]) -> int:
    """Evaluate or list; the exit code is 0 only when every task has its scores."""
    asked = parser().parse_args(words)
    if asked.list is not None:
        print(listing(asked.list))
        return 0
    if asked.model is None or not (asked.tasks or asked.task_file):
        parser().error("--model and --tasks are needed (or --list)")
    if not asked.model.is_dir():
        raise UserError(
            f"--model {asked.model}: no such folder; fetch a hub's model first (realign fetch_hub)"
        )
    have_a_cache()
    start_logging(asked.log)
    evaluation, planned = plan(asked)
    out = asked.out or Path("results/evaluate") / asked.model.resolve().name
    if asked.fetch:
        fetch(planned, out, asked.store)
    failed = evaluate_all(asked, evaluation, planned, out)
    summary = summarize(planned, out)
    print(summary)
    out.mkdir(parents=True, exist_ok=True)  # where every task failed, nothing was put there
    (out / "summary.md").write_text(summary + "\n", encoding="utf-8")
    for name, why in failed.items():
        print(f"realign evaluate: {name} failed: {why}", file=sys.stderr)
    return 1 if failed else 0


def plan(asked: argparse.Namespace) -> tuple[Evaluation, dict[str, Planned]]:
    """The evaluation that a command line asks for, and its tasks."""
    own = _own_tasks(asked.task_file) if asked.task_file else {}
    named = {name: own[name] for name in asked.tasks if name in own}
    rest = [name for name in asked.tasks if name not in own]
    for name in rest:
        if name not in tasks() and name not in benchmarks():
            known = [*own, *tasks(), *benchmarks()]
            raise UserError(
                f"no task or benchmark '{name}'{nearest(name, known)}; see realign evaluate --list"
            )
    mode = asked.instructions or ("task" if asked.prompts else "model")
    content = {
        "tasks": named or ({} if rest else own),
        "benchmarks": [name for name in rest if name in benchmarks()],
        "mteb_tasks": [name for name in rest if name not in benchmarks()],
        "instructions": mode,
        "template": asked.template,
        "prompts": parse_prompts(asked.prompts, own) if asked.prompts else {},
        "max_length": asked.max_length,
        "dtype": asked.dtype,
        "seed": asked.seed,
    }
    try:
        evaluation = Evaluation.model_validate(content)
    except ValidationError as error:
        _refuse(asked.task_file, describe(error, Evaluation))
    _refuse(asked.task_file, evaluation.problems_in(None))
    planned = planned_tasks(evaluation)
    _refuse(asked.task_file, _missing_files(planned))
    return evaluation, planned


def _refuse(file: Path | None, problems: Iterable[str]) -> None:
    """Stop where there are problems; those of tasks of one's own lie in their file."""
    lines = [line.removeprefix("evaluation.") for line in problems]
    if lines:
        raise UserError("\n".join(f"{file}: {x}" if file and x.startswith("tasks.") else x for x in lines))


def _missing_files(planned: dict[str, Planned]) -> Iterator[str]:
    """A line for each file of a task that is not there, before hours go into the other tasks."""
    for one in planned.values():
        if one.files is None:
            continue
        try:
            paths = [Path(path) for path in task_files(one, "")]
        except StudyError as error:
            yield from (f"{error.source}.{problem}" for problem in error.problems)
            continue
        yield from (f"tasks.{one.source.task}.files: there is no {p}" for p in paths if not p.is_file())


def _own_tasks(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: {error}") from None
    content = content.get("tasks", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not content:
        raise UserError(
            f"{path}: a mapping of task names is expected, such as Mine: {{type: sts, path: data}}"
        )
    for name, task in content.items():
        for key in {"embedded", "dataset"} & set(task if isinstance(task, dict) else ()):
            raise UserError(
                f"{path}: tasks.{name}.{key}: only a study makes such files; give their path instead"
            )
        if isinstance(task, dict) and isinstance(task.get("path"), str):
            task["path"] = str(path.parent / task["path"])
    return content


def evaluate_all(
    asked: argparse.Namespace, evaluation: Evaluation, planned: dict[str, Planned], out: Path
) -> dict[str, str]:
    """Evaluate task by task; the tasks that failed, each with its reason."""
    failed = {}
    name = asked.model.resolve().name
    for task, one in planned.items():
        inputs: dict[str, Path | list[Path]] = {"model": asked.model}
        data = [Path(path) for path in task_files(one, str(out))]
        if one.files is not None or all(path.is_file() for path in data):
            inputs["data"] = data
        places = {
            "scores": out / f"{task}.json",
            "record": out / "records" / f"{task}.json",
            "queries": out / "queries" / f"{task}.parquet",
        }
        try:
            settings = task_settings(evaluation, name, one.source)
            threads = asked.threads or _cores()
            execute(EVALUATE, settings, inputs, places, WorkStore(asked.store), threads, asked.force)
        except Interrupted as leaving:
            print(f"realign evaluate: {leaving}; {KEPT}. Run it again to go on", file=sys.stderr)
            sys.exit(Interrupted.exit_code)
        except Exception as error:
            for place in places.values():
                place.unlink(missing_ok=True)
            failed[task] = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            if not isinstance(error, UserError):
                log.exception("%s failed", task)
    return failed


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fetch(planned: dict[str, Planned], out: Path, store: Path) -> None:
    """Fetch what mteb's tasks need, in a process of its own: this one keeps the hub switched off."""
    for task in dict.fromkeys(p.source.task for p in planned.values() if p.files is None):
        words = ["fetch_task", "--task", task, "--revision", json.dumps(tasks()[task]["revision"])]
        # forced, since it fills the hub's cache: that a record is there says nothing of that
        words += ["--record", str(out / "datasets" / f"{task}.json"), "--store", str(store), "--force"]
        subprocess.run([sys.executable, "-m", "realign.cli", *words], check=False)


def summarize(planned: dict[str, Planned], out: Path) -> str:
    """The scores as a Markdown table, and the means of those benchmarks that have no holes."""
    from realign.evaluation.aggregates import benchmark_means, holes
    from realign.evaluation.collect import read_all

    there = [name for name in planned if (out / f"{name}.json").is_file()]
    found = read_all([out / f"{n}.json" for n in there], [out / "records" / f"{n}.json" for n in there]).get(
        "", {}
    )
    lines = ["| task | type | metric | score |", "|---|---|---|---|"]
    members: dict[str, dict[str, Any]] = {}
    for name, one in planned.items():
        for benchmark, part in one.parts.items():
            members.setdefault(benchmark, {})[one.source.task] = part
        if name not in found:
            lines.append(f"| {name} | | | failed |")
            continue
        scores, record = found[name]
        value = sum(e.value for e in scores.entries) / len(scores.entries)
        lines.append(f"| {name} | {record['task_type']} | {record['metric']} | {value:.4f} |")
    settings = CollectScores(study="evaluate", model="model", benchmarks=members)
    scores_of = {task: scores for task, (scores, _) in found.items()}
    for benchmark, parts in settings.benchmarks.items():
        missing = holes(parts, scores_of)
        if missing:
            lines.append(
                f"| **{benchmark}** | | mean | none: {len(missing)} of {len(parts)} tasks are missing |"
            )
        for m in benchmark_means(parts, scores_of):
            if m.metric in ("mean_over_tasks", "mean_over_types"):
                lines.append(f"| **{benchmark}** | | {m.metric} | {m.value:.4f} |")
    return "\n".join(lines)


def listing(benchmark: str = "") -> str:
    """The benchmarks with the number of their tasks by type, or one benchmark's tasks."""
    if not benchmark:
        lines = [f"benchmarks of mteb {planned_mteb()} (text), with their tasks by type"]
        for name, members in benchmarks().items():
            types = Counter(tasks()[task]["type"] for task in members)
            told = ", ".join(f"{kind} {count}" for kind, count in types.most_common())
            lines.append(f"{name}: {len(members)} tasks ({told})")
        return "\n".join(lines)
    if benchmark not in benchmarks():
        raise UserError(f"no benchmark '{benchmark}'{nearest(benchmark, benchmarks())}")
    members = benchmarks()[benchmark]
    lines = [
        f"{benchmark}: {len(members)} tasks",
        "task\ttype\tmetric\ttexts\tsplits\tsubsets\tdataset revision",
    ]
    for name, part in members.items():
        about = tasks()[name]
        splits = ",".join(part.get("splits", about["splits"]))
        subsets = len(part["subsets"]) if "subsets" in part else about["subsets"]
        private = "" if about["public"] else " (private)"
        texts = "?" if about["texts"] is None else about["texts"]
        lines.append(
            f"{name}{private}\t{about['type']}\t{about['metric']}\t{texts}\t{splits}\t{subsets}\t{about['revision'][:12]}"
        )
    return "\n".join(lines)
