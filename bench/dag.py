"""How long planning takes: our dry-run against a bare Snakemake workflow with as many jobs.

    python bench/dag.py [--pairs 5] [--jobs 5000]

People plan all day long, so the study's typed settings, slices and fingerprints must not cost much
beside what Snakemake itself takes. The bare workflow has as many jobs, with as many files, a log,
a benchmark and a parameter each, and none of our code. Both are run in turn, as whole processes;
the ratio is the median over pairs, of wall clock and of processor seconds (which other work on the
machine disturbs less).
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
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]

BARE = """
STAGES, WIDTH, INPUTS, OUTPUTS = {stages}, {width}, {inputs}, {outputs}
rule all:
    input: [f"results/bare/s{{STAGES - 1}}/{{i}}.0" for i in range(WIDTH)],
for stage in range(STAGES):
    rule:
        name: f"s{{stage}}"
        input: [f"results/bare/s{{stage - 1}}/{{{{i}}}}.{{k % OUTPUTS}}" for k in range(INPUTS)] if stage else [],
        output: [f"results/bare/s{{stage}}/{{{{i}}}}.{{k}}" for k in range(OUTPUTS)],
        params: job="one",
        log: f"results/bare/logs/s{{stage}}/{{{{i}}}}.log",
        benchmark: f"results/bare/benchmarks/s{{stage}}/{{{{i}}}}.tsv"
        threads: 1
        shell: "true"
"""


def made_up_study(jobs: int) -> dict:
    """A study of given models, wide enough for about so many jobs."""
    per_pair = 270  # jobs that one more pair of embedded backbones adds with the settings below
    pairs = max(1, round(jobs / per_pair))
    names = [(f"base{i}", f"tuned{i}") for i in range(pairs)]
    study = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    study["study"] |= {"name": "wide", "seeds": [0, 1]}
    study["backbones"] = {n: {"path": f"models/{n}"} for pair in names for n in pair}
    study["pairs"] = [{"left": a, "right": b, "kind": "rlvr"} for a, b in names]
    study.pop("claims", None)
    return study


def dry_run(folder: Path, *words: str) -> tuple[float, float]:
    """Seconds of wall clock and of the processor that a dry-run takes as a whole process."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "all", "--nolock", *words],
        cwd=folder, check=True, capture_output=True, env={**os.environ, "REALIGN_RUN": ""},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, processor


def shape(folder: Path, *words: str) -> tuple[int, float, float]:
    """The number of jobs of a study and the mean number of their input and output files."""
    from realign.runs.dag import planned_jobs

    jobs = planned_jobs(ROOT / "Snakefile", folder, *words)
    outputs = statistics.mean(len(job.outputs) for job in jobs)
    print(dict(Counter(job.rule for job in jobs).most_common(6)), file=sys.stderr)
    return len(jobs), statistics.mean(job.input_count for job in jobs), outputs


def compare(name: str, study: Path, pairs: int) -> dict:
    """Ratios of one study against a bare workflow of its size."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = yaml.safe_load(study.read_text(encoding="utf-8"))["backbones"]
        for model in models.values():  # given models must be there for a plan
            if "path" in model:
                (folder / model["path"]).mkdir(parents=True)
        jobs, inputs, outputs = shape(folder, study)
        stages = 20
        bare = folder / "bare.smk"
        text = BARE.format(
            stages=stages, width=round(jobs / stages), inputs=round(inputs), outputs=round(outputs)
        )
        bare.write_text(text, encoding="utf-8")
        ours_words = ("--snakefile", str(ROOT / "Snakefile"), "--configfile", str(study), "--directory", ".")
        # planning the shape has warmed the file cache
        times = [
            (dry_run(folder, *ours_words), dry_run(folder, "--snakefile", str(bare))) for _ in range(pairs)
        ]
    result: dict = {"study": name, "jobs": jobs}
    for i, kind in enumerate(("seconds", "processor_seconds")):
        result[kind] = round(statistics.median(ours[i] for ours, _ in times), 2)
        result[f"bare_{kind}"] = round(statistics.median(bare[i] for _, bare in times), 2)
        result["ratio" if i == 0 else "processor_ratio"] = round(
            statistics.median(ours[i] / bare[i] for ours, bare in times), 2
        )
    return result


def main() -> None:
    """Print both comparisons as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=5000)
    arguments = parser.parse_args()
    print(json.dumps(compare("tiny", ROOT / "config.yaml", arguments.pairs)))
    with tempfile.TemporaryDirectory() as temporary:
        wide = Path(temporary) / "wide.yaml"
        wide.write_text(yaml.safe_dump(made_up_study(arguments.jobs)), encoding="utf-8")
        print(json.dumps(compare("made up", wide, arguments.pairs)))


if __name__ == "__main__":
    main()
