"""Past one machine: what a study costs by its size, and whether a large one can still be planned.

    python bench/scale.py --page              docs/scale.md's tables, from arithmetic alone, in seconds
    python -m bench scale --jobs 50000        plan a made-up study of so many jobs; hash a sparse file

The tables count a study's jobs and files exactly as the workflow does. GPU time is arithmetic: floating
point operations over a stated share of the hardware's peak. Every assumption is in `Assumed`.
"""

import argparse
import copy
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "scale.md"
MARKS = "<!-- made by python bench/scale.py --page -->\n", "<!-- end -->"


@dataclass(frozen=True)
class Assumed:
    """What the arithmetic rests on, beside the study; change a number and make the page again."""

    peak: float = 312e12  # operations a second of one A100 in bf16
    training_share: float = 0.40  # of the peak that training reaches
    forward_share: float = 0.50  # of the peak that a forward pass reaches
    query_tokens: int = 40  # mean, instruction included
    passage_tokens: int = 110
    task_texts: float = 17e6  # distinct texts of the three benchmarks, see the page
    task_tokens: int = 128  # mean
    start_seconds: float = 60  # of a GPU job before it computes: imports and loading the model
    corpus_tokens: float = 0.9e6 + 0.25e6 + 0.5e6  # the reasoning traces, MMLU-Pro, AG News
    state_tokens: int = 50_000  # kept of each of two corpora


@dataclass(frozen=True)
class Model:
    """A model's shape; `computing` leaves the embedding table out."""

    name: str
    parameters: float
    computing: float
    layers: int
    width: int


MODELS = (  # Qwen2.5's
    Model("0.5B", 0.494e9, 0.358e9, 24, 896),
    Model("1.5B", 1.54e9, 1.31e9, 28, 1536),
    Model("7B", 7.62e9, 6.53e9, 28, 3584),
    Model("32B", 32.8e9, 31.0e9, 64, 5120),
    Model("72B", 72.7e9, 70.0e9, 80, 8192),
)
# A gradient over a cached batch: two forward passes, one more to recompute activations, one backward.
TRAINING_OPERATIONS, FORWARD_OPERATIONS = 2 + 2 + 2 + 4, 2


def training_hours(model: Model, samples: float, given: Assumed) -> float:
    """GPU-hours of one contrastive training with three hard negatives."""
    tokens = samples * (given.query_tokens + 4 * given.passage_tokens)
    return TRAINING_OPERATIONS * model.computing * tokens / (given.peak * given.training_share) / 3600


def forward_hours(model: Model, tokens: float, given: Assumed) -> float:
    """GPU-hours of a forward pass over so many tokens."""
    return FORWARD_OPERATIONS * model.computing * tokens / (given.peak * given.forward_share) / 3600


def evaluation_hours(model: Model, tasks: int, given: Assumed) -> float:
    """GPU-hours of all benchmarks for one embedder, each task's job starting by itself."""
    return (
        forward_hours(model, given.task_texts * given.task_tokens, given) + tasks * given.start_seconds / 3600
    )


def state_gigabytes(model: Model, given: Assumed) -> float:
    """Token states of one model, two corpora, one attention mode, in bfloat16."""
    return 2 * (model.layers + 1) * given.state_tokens * model.width * 2 / 1e9


def study_of(pairs: int) -> dict:
    """The paper's study with so many RLVR pairs in place of its own, and its main recipe alone."""
    study = yaml.safe_load((ROOT / "studies" / "paper.yaml").read_text(encoding="utf-8"))
    names = [(f"base{i}", f"tuned{i}") for i in range(pairs)]
    study["study"]["name"] = f"wide-{pairs}"
    teacher = {"teacher": study["backbones"]["teacher"]}
    study["backbones"] = {n: {"hub": f"made-up/{n}"} for pair in names for n in pair} | teacher
    study["pairs"] = [{"left": a, "right": b, "kind": "rlvr"} for a, b in names]
    study["recipes"] = {"full": study["recipes"]["full"]}
    study["resources"].pop("backbones", None)
    return copy.deepcopy(study)


@dataclass(frozen=True)
class Counts:
    """What a study is made of."""

    embedders: int
    checkpoints: int
    tasks: int
    evaluations: int
    published: int  # of the evaluations: done by evaluate_warm
    comparisons: int
    extractions: int

    @property
    def jobs(self) -> int:
        """The jobs that grow with pairs; plates, datasets and benchmarks' tasks add a fixed number."""
        return self.queued + self.embedders // 3 + self.embedders + self.published

    @property
    def queued(self) -> int:
        """Those that a cluster gets: one fetch a backbone, collecting and publishing scores run beside it."""
        return (
            self.embedders * 2  # train, evaluate_warm
            + self.checkpoints + self.evaluations - self.published + self.comparisons + self.extractions
        )  # fmt: skip


def counts(pairs: int) -> Counts:
    """A study's parts, counted by the code that plans them."""
    from realign.measures.families import parts_of_file
    from realign.plan.comparisons import comparisons
    from realign.plan.evaluations import EvaluationPlan
    from realign.plan.targets import checkpoints, embedders
    from realign.study.load import parse_study

    study = parse_study(study_of(pairs))
    made = [(comparison, file) for comparison in comparisons(study) for file in comparison.files]
    sides = {(model, *parts_of_file(file)[:2]) for comparison, file in made for model in comparison.models}
    plan = EvaluationPlan(study, "results")
    models, tasks = len(plan.models), len(plan.tasks)
    return Counts(
        len(embedders(study)), len(checkpoints(study)), tasks,
        models * tasks, models * len(plan.warm), len(made), len(sides),
    )  # fmt: skip


def page_tables(given: Assumed) -> str:
    """The tables of docs/scale.md."""
    samples = (1.6e6, 10e6, 100e6)
    tasks = counts(1).tasks
    lines = [
        "### One model",
        "",
        "GPU-hours of one A100; storage of one model with its states.",
        "",
        "| model | training, 1.6 M pairs | 10 M | 100 M | all benchmarks | extraction | weights | checkpoint, up to three at once | states, one mode |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for m in MODELS:
        train = [training_hours(m, n, given) for n in samples]
        cells = [
            *(f"{h:,.0f} h" if h >= 10 else f"{h:.1f} h" for h in train),
            f"{evaluation_hours(m, tasks, given):,.1f} h",
            f"{forward_hours(m, given.corpus_tokens, given) * 60:,.1f} min",
            f"{2 * m.parameters / 1e9:,.0f} GB",
            f"{12 * m.parameters / 1e9:,.0f} GB",
            f"{state_gigabytes(m, given):,.1f} GB",
        ]
        lines.append(f"| {m.name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "### One study",
        "",
        "The paper's study with that many pairs (three seeds, three checkpoints, three benchmarks, all measures):",
        "",
        "| pairs | embedders | jobs | in the queue | files of tidy results | GPU-hours at 1.5B | at 7B | storage at 1.5B | at 7B |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for pairs in (1, 10, 100):
        c = counts(pairs)
        hours, storage = [], []
        for m in (MODELS[1], MODELS[2]):
            extraction = c.extractions * (
                forward_hours(m, given.corpus_tokens / 3, given) + given.start_seconds / 3600
            )
            hours.append(
                c.embedders * (training_hours(m, 1.6e6, given) + evaluation_hours(m, tasks, given))
                + extraction
            )
            models = (c.embedders + c.checkpoints + 2 * pairs) * 2 * m.parameters / 1e9
            storage.append(models + c.extractions * state_gigabytes(m, given) / 2)
        files = c.comparisons + 2 * c.embedders
        lines.append(
            f"| {pairs} | {c.embedders:,} | {c.jobs:,} | {c.queued:,} | {files:,} | "
            + " | ".join(f"{h:,.0f}" for h in hours) + " | "
            + " | ".join(f"{s / 1000:,.1f} TB" for s in storage) + " |"
        )  # fmt: skip
    return "\n".join([*lines, ""])


def page() -> str:
    """docs/scale.md with its tables made anew."""
    before, rest = PAGE.read_text(encoding="utf-8").split(MARKS[0])
    return before + MARKS[0] + page_tables(Assumed()) + MARKS[1] + rest.split(MARKS[1], 1)[1]


def plan(jobs: int) -> dict:
    """A made-up study of about so many jobs, planned by a process of its own."""
    pairs = max(1, round(jobs / (counts(2).jobs - counts(1).jobs)))
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder, "wide.yaml")
        study.write_text(yaml.safe_dump(study_of(pairs)), encoding="utf-8")
        words = [sys.executable, "-m", "realign.cli", "plan", "--json", "--configfile", str(study)]
        words += ["--snakefile", str(ROOT / "Snakefile")]
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "pairs": pairs,
            "jobs": sum(len(step["jobs"]) for step in json.loads(done.stdout)),
            "seconds": time.perf_counter() - started,
            "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "gb": after.ru_maxrss / 2**20,
        }


def hash_sparse(gigabytes: float) -> float:
    """Gigabytes a second at which a file of states of that size gets its manifest; it holds no data."""
    from realign.artifacts.manifest import make_manifest

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "states.h5")
        with path.open("wb") as stream:
            os.truncate(stream.fileno(), int(gigabytes * 1e9))
        started = time.process_time()
        assert make_manifest(path).size == int(gigabytes * 1e9)
        return gigabytes / (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[5000])
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--page", action="store_true", help="only write docs/scale.md")
    parser.add_argument("--check", action="store_true", help="only say whether docs/scale.md is up to date")
    given = parser.parse_args()
    if given.page:
        PAGE.write_text(page(), encoding="utf-8")
        return
    if given.check:
        sys.exit(
            None if page() == PAGE.read_text(encoding="utf-8") else "docs/scale.md is out of date: make docs"
        )
    from measured import measured

    rate = hash_sparse(given.gigabytes)
    measured(
        f"a sparse file of {given.gigabytes:g} GB", "content hash", round(rate, 2), "GB a processor second"
    )
    for jobs in given.jobs:
        found = plan(jobs)
        case = f"{found['jobs']:,} jobs ({found['pairs']} pairs)"
        measured(case, "realign plan, processor time", round(found["cpu"], 1), "s")
        measured(case, "realign plan, memory", round(found["gb"], 2), "GB")


if __name__ == "__main__":
    main()
