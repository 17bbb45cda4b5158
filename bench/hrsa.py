"""The similarity analysis: time and memory by family, and against the published way of doing it.

    python bench/hrsa.py                     a small size, in a minute or two
    python bench/hrsa.py --size full         20,000 tokens × 25 layers × 896 (needs 8 GB of disk)
    python bench/hrsa.py --flat              memory against the number of layers and of texts
    python bench/hrsa.py --baseline          ours beside the published way (bench/published.py) and a bound
    python bench/hrsa.py --contention        each family beside as many busy processes as there are cores

Each family runs in a process of its own, whose peak memory is the figure given; times and memory
include the imports. Times are to be compared within one run only, and on a busy machine those of the
processor. The bound is the time of the matrix products alone, at the speed that this machine multiplies
large matrices with just then; `--rounds` repeats a comparison, and a ratio is the median of its rounds.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measured import measured, spread

from realign.measures.families import FAMILIES

SIZES = {  # tokens, layers, width, texts
    "tiny": (600, 4, 64, 30),
    "small": (3000, 9, 256, 60),
    "medium": (8000, 13, 512, 100),
    "full": (20_000, 25, 896, 200),
}
OF_STATES = [family.name for family in FAMILIES.values() if family.reads != "models" and not family.heads]
COMPARED = ("linear", "neighbours")  # the families that measure what the published way measures
KS = (5, 10, 50)


def write_states(path, tokens, layers, width, texts, seed, base=None):
    """A file of states: random, or `base` bent and disturbed; one layer in memory at a time."""
    import h5py
    import numpy as np

    random = np.random.default_rng(seed)
    text_index = np.sort(np.arange(tokens) % texts)
    bend = np.eye(width) + 0.5 * random.standard_normal((width, width)) / np.sqrt(width)
    source = h5py.File(base) if base else None
    with h5py.File(path, "w") as file:
        file.attrs.update(format="realign-states", version=1, corpus="bench", attention="causal")
        file.attrs["level"] = "token" if tokens > texts else "text"
        chunk = (1, max(1, min(tokens, (1 << 22) // (4 * width))), width)
        states = file.create_dataset("states", (layers, tokens, width), "f4", chunks=chunk)
        for layer in range(layers):
            noise = random.standard_normal((tokens, width), np.float32)
            shared = random.standard_normal((texts, width), np.float32)[text_index]
            states[layer] = source["states"][layer] @ bend + noise / 2 if source else noise + shared
        file["text_index"] = text_index.astype("i4")
        file["token_ids"] = (np.arange(tokens) * 31 % 997).astype("i4")
        file["position"] = np.arange(tokens, dtype="i4")
        file.create_dataset("labels", data=[f"c{t % 4}" for t in range(texts)], dtype=h5py.string_dtype())


def make_pair(folder, tokens, layers, width, texts, name=""):
    """Two token files and two pooled ones."""
    for kind, rows in (("", tokens), ("pooled-", texts)):
        a, b = (folder / f"{name}{kind}{side}.h5" for side in "ab")
        write_states(a, rows, layers, width, texts, 1)
        write_states(b, rows, layers, width, texts, 2, a)


CHILD = """
import json, resource, sys, time
from realign.cli import main
before = time.perf_counter()
code = main(json.loads(sys.argv[1]))
used = resource.getrusage(resource.RUSAGE_SELF)
seconds, cpu = time.perf_counter() - before, used.ru_utime + used.ru_stime
print(json.dumps({"code": code, "seconds": seconds, "cpu": cpu, "mb": used.ru_maxrss / 1024}))
"""


def run_family(family, folder, threads, name="", settings=None):
    """One family's command in a process of its own: seconds and peak megabytes."""
    kind = "pooled-" if FAMILIES[family].reads == "pooled" else ""
    words = [f"hrsa_{family}", "--threads", str(threads), "--store", str(folder / "store"), "--force"]
    words += ["--left", str(folder / f"{name}{kind}a.h5"), "--right", str(folder / f"{name}{kind}b.h5")]
    words += ["--measures", str(folder / f"{name}{family}.parquet")]
    for output in FAMILIES[family].outputs:
        words += [f"--{output}", str(folder / f"{name}{output}.h5")]
    words += ["--settings", json.dumps(settings)] if settings else []
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    child = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(words)], capture_output=True, text=True, env=environment
    )
    if child.returncode or '"code": 0' not in child.stdout:
        raise SystemExit(f"{family} failed:\n{child.stderr}")
    return json.loads(child.stdout.splitlines()[-1])


def by_family(size, threads, families):
    """Time and memory of each family at one size."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_pair(folder, *SIZES[size])
        held = sum(p.stat().st_size for p in folder.glob("[ab].h5")) / 2**20
        case, total, peak = told(size, threads), 0.0, 0.0
        measured(case, "both files", round(held), "MB")
        for family in families:
            found = run_family(family, folder, threads)
            total, peak = total + found["seconds"], max(peak, found["mb"])
            measured(case, f"seconds, {family}", round(found["seconds"], 1), "s")
            measured(case, f"processor time, {family}", round(found["cpu"], 1), "s")
            measured(case, f"peak memory, {family}", round(found["mb"]), "MB")
        measured(case, "seconds, all", round(total, 1), "s")
        measured(case, "peak memory, all", round(peak), "MB", "≤ 4000" if size == "full" else "")


def told(size, threads):
    """A size in words."""
    tokens, layers, width, texts = SIZES[size]
    return f"{tokens} tokens of {texts} texts, {layers} layers × {width}, {threads} thread(s)"


def flat(size, threads, families):
    """Peak memory when layers, and when texts, are four times as many."""
    tokens, layers, width, texts = SIZES[size]
    cases = {"as it is": (layers, texts), "layers × 4": (4 * layers, texts), "texts × 4": (layers, 4 * texts)}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for case, (more_layers, more_texts) in cases.items():
            make_pair(folder, tokens, more_layers, width, more_texts)
            peaks = {f: round(run_family(f, folder, threads)["mb"]) for f in families}
            for family, megabytes in peaks.items():
                measured(f"{told(size, threads)}, {case}", f"peak memory, {family}", megabytes, "MB")


# --- Beside the published way ---------------------------------------------------------------------


def save_states(model, ids, path):
    """One extraction of ours: a batch at a time to the file."""
    import h5py
    import numpy as np
    import torch
    from published import BATCH

    texts, length = ids.shape
    layers, width = model.config.num_hidden_layers + 1, model.config.hidden_size
    with h5py.File(path, "w") as file, torch.inference_mode():
        file.attrs.update(format="realign-states", version=1, corpus="bench", attention="causal")
        states = file.create_dataset("states", (layers, texts * length, width), "f4")
        for start in range(0, texts, BATCH):
            batch = ids[start : start + BATCH]
            hidden = model(batch, output_hidden_states=True).hidden_states
            rows = slice(start * length, (start + len(batch)) * length)
            for layer, values in enumerate(hidden):
                states[layer, rows] = values.flatten(0, 1).numpy()
        file["text_index"] = np.repeat(np.arange(texts), length).astype("i4")
        file["token_ids"] = ids.flatten().numpy().astype("i4")
        file["position"] = np.tile(np.arange(length), texts).astype("i4")


def as_one_text(folder):
    """The same states as of one text, of which there is no interval."""
    import h5py

    for side in "ab":
        shutil.copy(folder / f"{side}.h5", folder / f"one-{side}.h5")
        with h5py.File(folder / f"one-{side}.h5", "r+") as file:
            file["text_index"][:] = 0


def clocks():
    """Wall clock and processor time of this process, in seconds."""
    return time.perf_counter(), time.process_time()


def taken(work, times=1):
    """What some work gives, and how long it took each time by either clock."""
    started = clocks()
    for _ in range(times):
        found = work()
    return found, [(now - then) / times for now, then in zip(clocks(), started, strict=True)]


def bound(tokens, layers, width):
    """Seconds that the matrix products of each family take by either clock, at this machine's best speed.

    `linear`: Σ x yᵀ of all layer pairs and of each layer with itself in float32, and of corresponding layers
    once more in float64, for the rotation. `neighbours`: x·y of all pairs of tokens, each pair once.
    """
    import torch

    single = torch.randn(2048, 2048)
    best = {}
    for kind, matrix in (("float32", single), ("float64", single.double())):
        libraries = matrix, matrix.numpy()
        runs = [taken(lambda m=m: m @ m, 3)[1] for m in libraries]
        best[kind] = [min(by_clock) / (2 * 2048**3) for by_clock in zip(*runs, strict=True)]
    features = 2 * tokens * width**2
    counts = {
        "linear": {"float32": features * (layers**2 + 2 * layers), "float64": features * layers},
        "neighbours": {"float32": tokens**2 * width * 2 * layers},
    }
    return {
        family: [sum(count * best[kind][clock] for kind, count in of_kind.items()) for clock in (0, 1)]
        for family, of_kind in counts.items()
    }


def baseline(size, threads, rounds):
    """The whole analysis of a pair, with extraction and without: ours, and the published way."""
    import torch
    from published import make_models

    torch.set_num_threads(threads)
    tokens, layers, width, texts = SIZES[size]
    torch.manual_seed(0)
    ids = torch.randint(1000, (texts, tokens // texts))
    models = make_models(layers, width)
    with tempfile.TemporaryDirectory() as place:
        found = [one_round(models, ids, Path(place), threads) for _ in range(rounds)]
    report(told(size, threads), found)


def one_round(models, ids, folder, threads):
    """What each way took by either clock, in seconds."""
    from published import compare, extract

    def save():
        for model, side in zip(models, "ab", strict=True):
            save_states(model, ids, folder / f"{side}.h5")

    found = {"our extraction": taken(save)[1]}
    as_one_text(folder)
    for name, what in (("", "with intervals"), ("one-", "point estimates alone")):
        for family in COMPARED:
            ours = run_family(family, folder, threads, name)
            found[f"our {family}, {what}"] = [ours["seconds"], ours["cpu"]]
    states = [extract(model, ids) for model in models]
    ways = {
        "states at hand": lambda: states,
        "with extraction": lambda: [extract(model, ids) for model in models],
    }
    for what, both in ways.items():
        for collect, of_collector in ((True, ""), (False, " without its collector")):
            theirs, seconds = taken(lambda both=both, collect=collect: compare(both, KS, collect))
            check(theirs, folder)
            found[f"the published way{of_collector}, {what}"] = seconds
        states.clear()  # from here on each measure extracts its own
    config = models[0].config
    for family, seconds in bound(ids.numel(), config.num_hidden_layers + 1, config.hidden_size).items():
        found[f"bound of the products, {family}"] = seconds
    return found


def report(case, rounds):
    """All times, and the ratios that have an aim; each ratio is within a round."""

    theirs = "the published way without its collector"
    ours = [f"our {family}, with intervals" for family in COMPARED]
    bounds = [f"bound of the products, {family}" for family in COMPARED]
    ratios = {
        f"{theirs} / ours, extraction included": ([f"{theirs}, with extraction"], [*ours, "our extraction"], "≥ 2"),
        f"{theirs} / ours, states at hand": ([f"{theirs}, states at hand"], ours, "≥ 1"),
        "ours with intervals / bound": (ours, bounds, "≤ 1.5"),
        **{f"our {f} with intervals / bound": ([o], [b], "≤ 1.5") for f, o, b in zip(COMPARED, ours, bounds, strict=True)},
    }  # fmt: skip
    for clock, of_clock in enumerate(("time", "processor time")):
        seconds = [{what: both[clock] for what, both in found.items()} for found in rounds]
        for what in rounds[0]:
            spread(case, f"{of_clock}, {what}", [found[what] for found in seconds], "s")
        for what, (above, below, aim) in ratios.items():
            values = [sum(found[w] for w in above) / sum(found[w] for w in below) for found in seconds]
            spread(case, f"{of_clock}, {what}", values, "×", aim)


def check(theirs, folder):
    """Both ways must have measured the same thing."""
    import h5py
    import numpy as np

    with h5py.File(folder / "matrices.h5") as file:
        for name in ("cka", "correlation"):
            np.testing.assert_allclose(file[name][:], theirs[name].numpy(), atol=2e-3)


# --- Beside busy processes ------------------------------------------------------------------------


@contextlib.contextmanager
def busy(count):
    """So many processes that never wait, beside what is measured."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield others
    finally:
        for other in others:
            other.kill()
            other.wait()


def contention(size, threads, families, rounds):
    """Each family alone, and beside as many busy processes as the machine has cores.

    Threads that wait for one another at every product would take many times as long, not once more for each
    process that shares the cores.
    """
    cores = os.cpu_count()
    case = f"{told(size, threads)}, beside {cores} busy processes on {cores} cores"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_pair(folder, *SIZES[size])
        for family in families:
            alone, beside = [], []
            for _ in range(rounds):
                alone.append(run_family(family, folder, threads)["seconds"])
                with busy(cores):
                    beside.append(run_family(family, folder, threads)["seconds"])
            spread(case, f"seconds, {family}, alone", alone, "s")
            spread(case, f"seconds, {family}", beside, "s")
            ratios = [with_others / by_itself for with_others, by_itself in zip(beside, alone, strict=True)]
            spread(case, f"time, {family}, busy / alone", ratios, "×", f"≤ {cores + 1}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--families", nargs="*", choices=OF_STATES, default=OF_STATES)
    parser.add_argument("--flat", action="store_true")
    parser.add_argument("--baseline", action="store_true")
    parser.add_argument("--contention", action="store_true")
    parser.add_argument("--rounds", type=int, default=3, help="of --baseline and --contention")
    asked = parser.parse_args()
    if asked.baseline:
        baseline(asked.size, asked.threads, asked.rounds)
    elif asked.contention:
        contention(asked.size, asked.threads, asked.families, asked.rounds)
    elif asked.flat:
        flat(asked.size, asked.threads, asked.families)
    else:
        by_family(asked.size, asked.threads, asked.families)


if __name__ == "__main__":
    main()
