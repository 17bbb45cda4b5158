"""How long planning takes: our dry-run against a bare Snakemake workflow of the same shape.

    python bench/dag.py [--pairs 5] [--jobs 5000]

People plan all day long, so the study's typed settings, slices and fingerprints must not cost much
beside what Snakemake itself takes. The bare workflow has our rules by name and number, and for each of
our jobs one with the same wildcards, as many outputs, as many inputs from the same jobs, a log and a
parameter; its targets are the outputs that no other job takes. It looks inputs up in a table. It has none
of our code, no study, no resources, a one-word parameter and a one-word command, and it is run with the
same options as ours, so what Snakemake takes to start and to show jobs is in both. Both are run in turn,
as whole processes in an empty folder, our memory of the code's syntax being warm as it is on every day but the
first; the ratio is the median over pairs, of wall clock and of processor seconds (which other work on
the machine disturbs less). Where the embedded study has been run (`make demo`), a second run that finds
nothing to do is timed too.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import zip_longest
from pathlib import Path

import yaml
from measured import measured

from realign.runs.dag import PlannedJob, planned_jobs

ROOT = Path(__file__).resolve().parents[1]

BARE = """
import json
with open("shape.json") as file:
    SHAPE = json.load(file)

def inputs_of(name):
    return lambda wildcards: SHAPE["rules"][name]["inputs"]["/".join(wildcards)]

rule all:
    input: SHAPE["targets"],

for name, shape in SHAPE["rules"].items():
    rule:
        name: name
        input: inputs_of(name),
        output: shape["outputs"],
        params: job="one",
        log: f"results/bare/logs/{shape['path']}.log",
        threads: 1
        shell: "true"
"""


def made_up_study(jobs: int) -> dict:
    """A study of given models, wide enough for about so many jobs."""
    per_pair = 189  # jobs that one more pair of embedded backbones adds with the settings below
    pairs = max(1, round(jobs / per_pair))
    names = [(f"base{i}", f"tuned{i}") for i in range(pairs)]
    study = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    study["study"] |= {"name": "wide", "seeds": [0, 1]}
    study["backbones"] = {n: {"path": f"models/{n}"} for pair in names for n in pair}
    study["pairs"] = [{"left": a, "right": b, "kind": "rlvr"} for a, b in names]
    study.pop("claims", None)
    for recipe in study["recipes"].values():
        recipe.pop("backbones", None)
    return study


def dry_run(folder: Path, *words: str) -> tuple[float, float, str]:
    """Seconds of wall clock and of the processor that a dry-run takes as a whole process, and what it says."""
    return run(folder, "--dry-run", "--quiet", "all", "--nolock", *words)


def run(folder: Path, *words: str) -> tuple[float, float, str]:
    """The same of any run."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    profile = ROOT / "workflow" / "profiles" / "default"
    # compiled modules are kept, as Python does unless told otherwise: Snakemake's always are
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {
        "REALIGN_RUN": ""
    }
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--workflow-profile", profile, *words],
        cwd=folder, check=True, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, processor, done.stdout + done.stderr


def shape_of(jobs: list[PlannedJob]) -> dict:
    """The same jobs as a bare workflow reads them; its targets are what no other job takes."""
    rules: dict[str, dict] = {}
    made: dict[str, list[str]] = {}  # a job's name → its outputs in the bare workflow
    for job in jobs:
        path = "/".join([job.rule, *(f"{{{name}}}" for name in job.wildcards)])
        outputs = [f"results/bare/{path}.{i}" for i in range(len(job.outputs))]
        rules.setdefault(job.rule, {"path": path, "outputs": outputs, "inputs": {}})
        made[job.name] = [output.format(**job.wildcards) for output in outputs]
    for job in jobs:
        rules[job.rule]["inputs"]["/".join(job.wildcards.values())] = _inputs(job, made)
    followed = {name for job in jobs for name in job.after}
    ends = [path for name, outputs in made.items() if name not in followed for path in outputs]
    return {"rules": rules, "targets": ends}


def _inputs(job: PlannedJob, made: dict[str, list[str]]) -> list[str]:
    """As many files as a job takes, of the jobs before it in turn; what no job makes is one given file."""
    turns = zip_longest(*(made[name] for name in job.after))
    files = [path for turn in turns for path in turn if path]
    return [*files[: job.input_count], *["given"] * (job.input_count - len(files))]


def compare(name: str, study: Path, pairs: int) -> None:
    """Measure one study against a bare workflow of its shape."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = yaml.safe_load(study.read_text(encoding="utf-8"))["backbones"]
        for model in models.values():  # given models must be there for a plan
            if "path" in model:
                (folder / model["path"]).mkdir(parents=True)
        ours_words = ("--snakefile", str(ROOT / "Snakefile"), "--configfile", str(study), "--directory", ".")
        dry_run(folder, *ours_words)  # warms the file cache
        jobs = planned_jobs(ROOT / "Snakefile", folder, study)
        (folder / "given").touch()
        (folder / "shape.json").write_text(json.dumps(shape_of(jobs)), encoding="utf-8")
        (folder / "bare.smk").write_text(BARE, encoding="utf-8")
        print(dict(Counter(job.rule for job in jobs).most_common(6)), file=sys.stderr)
        times = [
            (dry_run(folder, *ours_words), dry_run(folder, "--snakefile", "bare.smk")) for _ in range(pairs)
        ]
    case = f"{name}, {len(jobs):,} jobs"
    for i, kind in enumerate(("wall clock", "processor time")):
        ratio = statistics.median(ours[i] / bare[i] for ours, bare in times)
        measured(case, f"{kind}, ours / bare", round(ratio, 2), "×", aim="≤ 1.3")
        measured(case, f"{kind}, ours", round(statistics.median(ours[i] for ours, _ in times), 2), "s")
        measured(case, f"{kind}, bare", round(statistics.median(bare[i] for _, bare in times), 2), "s")


def rerun(times: int) -> None:
    """Measure a second run of the embedded study, which has nothing to do."""
    if "Nothing to be done" not in run(ROOT, "--dry-run")[-1]:
        raise SystemExit("the embedded study has work to do: run make demo first")
    done = [run(ROOT, "--cores", "1") for _ in range(times)]
    for i, kind in enumerate(("wall clock", "processor time")):
        seconds = statistics.median(each[i] for each in done)
        measured("the embedded study, run again", f"{kind}, nothing to be done", round(seconds, 2), "s")


def main() -> None:
    """Measure both studies, and a second run where there was a first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=5000)
    arguments = parser.parse_args()
    compare("the embedded study", ROOT / "config.yaml", arguments.pairs)
    with tempfile.TemporaryDirectory() as temporary:
        wide = Path(temporary) / "wide.yaml"
        wide.write_text(yaml.safe_dump(made_up_study(arguments.jobs)), encoding="utf-8")
        compare("a made-up study", wide, arguments.pairs)
    if (ROOT / "results" / "tiny" / "report.html").exists():
        rerun(arguments.pairs)


if __name__ == "__main__":
    main()
