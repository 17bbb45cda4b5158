"""The similarity analysis: time and memory by family, and against the published way of doing it.

    python bench/hrsa.py                     a small size, in a minute or two
    python bench/hrsa.py --size full         20,000 tokens × 25 layers × 896 (needs 8 GB of disk)
    python bench/hrsa.py --flat              memory against the number of layers and of texts
    python bench/hrsa.py --baseline          the whole analysis of a pair, ours and the published way

Each family runs in a process of its own, whose peak memory is the figure given (the imports' share
included); times are to be compared within one run only, and on a busy machine those of the
processor. The baseline is written anew from the description of the published code: it extracts the
states of both models again for each measure, keeps all tokens of all layers of both in float32, and
goes layer pair by layer pair.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measured import measured

from realign.measures.families import FAMILIES

SIZES = {  # tokens, layers, width, texts
    "tiny": (600, 4, 64, 30),
    "small": (3000, 9, 256, 60),
    "medium": (8000, 13, 512, 100),
    "full": (20_000, 25, 896, 200),
}
OF_STATES = [family.name for family in FAMILIES.values() if family.reads != "models"]


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
    words += ["--measures", str(folder / f"{family}.parquet")]
    for output in FAMILIES[family].outputs:
        words += [f"--{output}", str(folder / f"{output}.h5")]
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


# --- The published way ----------------------------------------------------------------------------


def make_models(layers, width):
    """Two small random language models, so that extraction costs what it costs."""
    import torch
    from transformers import AutoModel, Qwen3Config

    config = Qwen3Config(
        vocab_size=1000, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers - 1,
        num_attention_heads=4, num_key_value_heads=2, head_dim=width // 4,
    )  # fmt: skip
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        models.append(AutoModel.from_config(config).eval())
    return models


def extract_all(model, ids):
    """All hidden states of all tokens in memory: (layers, tokens, width)."""
    import torch

    with torch.inference_mode():
        states = [
            torch.stack(model(batch, output_hidden_states=True).hidden_states) for batch in ids.split(8)
        ]
    return torch.cat([s.flatten(1, 2) for s in states], dim=1)


def published_way(models, ids, ks):
    """Four measures, the states of both models extracted again for each; values by measure."""
    import torch

    def both():
        return [extract_all(model, ids) for model in models]

    def centred(x):
        return x - x.mean(0, keepdim=True)

    found = {}
    x, y = both()
    layers = range(len(x))
    found["correlation"] = torch.tensor(
        [
            [
                (
                    (centred(x[i]) * centred(y[j])).sum(0) / (len(x[i]) - 1) / (x[i].std(0) * y[j].std(0))
                ).nanmean()
                for j in layers
            ]
            for i in layers
        ]
    )
    x, y = (torch.stack([centred(layer) for layer in side]) for side in both())

    def cka(a, b):
        return (a.T @ b).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm() + 1e-12)

    found["cka"] = torch.tensor([[cka(x[i], y[j]) for j in layers] for i in layers])
    x, y = both()
    for i in layers:
        u, _, v = torch.linalg.svd(centred(x[i]).T @ centred(y[i]))
        found["rotation"] = u @ v
    x, y = both()
    found["overlap"] = torch.tensor([overlap(x[i], y[i], ks) for i in layers])
    return found


def overlap(x, y, ks):
    """Jaccard overlap of cosine neighbours, a thousand tokens at a time."""
    import torch

    lists = []
    for side in (x, y):
        unit = torch.nn.functional.normalize(side)
        parts = []
        for start in range(0, len(unit), 1024):
            near = unit[start : start + 1024] @ unit.T
            near[torch.arange(len(near)), torch.arange(start, start + len(near))] = -torch.inf
            parts.append(near.topk(ks[-1]).indices)
        lists.append(torch.cat(parts))
    results = []
    for k in ks:
        shared = (lists[0][:, :k, None] == lists[1][:, None, :k]).any(2).sum(1)
        results.append((shared / (2 * k - shared)).mean())
    return results


def save_states(model, ids, path):
    """One extraction of ours: a batch at a time to the file."""
    import h5py
    import numpy as np
    import torch

    texts, length = ids.shape
    layers, width = model.config.num_hidden_layers + 1, model.config.hidden_size
    with h5py.File(path, "w") as file, torch.inference_mode():
        file.attrs.update(format="realign-states", version=1, corpus="bench", attention="causal")
        states = file.create_dataset("states", (layers, texts * length, width), "f4")
        for start in range(0, texts, 8):
            batch = ids[start : start + 8]
            hidden = model(batch, output_hidden_states=True).hidden_states
            rows = slice(start * length, (start + len(batch)) * length)
            for layer, values in enumerate(hidden):
                states[layer, rows] = values.flatten(0, 1).numpy()
        file["text_index"] = np.repeat(np.arange(texts), length).astype("i4")
        file["token_ids"] = ids.flatten().numpy().astype("i4")
        file["position"] = np.tile(np.arange(length), texts).astype("i4")


def baseline(size, threads):
    """The whole analysis of a pair, extraction included: ours with intervals, theirs without."""
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    tokens, layers, width, texts = SIZES[size]
    torch.manual_seed(0)
    ids = torch.randint(1000, (texts, tokens // texts))
    models = make_models(layers, width)
    ks = (5, 10, 50)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        started = time.perf_counter(), time.process_time()
        for model, side in zip(models, "ab", strict=True):
            save_states(model, ids, folder / f"{side}.h5")
        extraction = np.subtract((time.perf_counter(), time.process_time()), started)
        ours = [run_family(f, folder, threads) for f in ("linear", "neighbours")]
        started = time.perf_counter(), time.process_time()
        theirs = published_way(models, ids, ks)
        elapsed = np.subtract((time.perf_counter(), time.process_time()), started)
        check(theirs, folder)
    for i, (clock, what) in enumerate((("seconds", "time"), ("cpu", "processor time"))):
        parts = [extraction[i], *(f[clock] for f in ours)]
        case, ratio = told(size, threads), elapsed[i] / sum(parts)
        for part, seconds in zip(("extraction", "linear", "neighbours"), parts, strict=True):
            measured(case, f"{what}, our {part} with intervals", round(seconds, 1), "s")
        measured(case, f"{what}, the published way", round(elapsed[i], 1), "s")
        measured(case, f"{what}, the published way / ours", round(ratio, 2), "×", "≥ 10")


def check(theirs, folder):
    """Both ways must have measured the same thing."""
    import h5py
    import numpy as np

    with h5py.File(folder / "matrices.h5") as file:
        for name in ("cka", "correlation"):
            np.testing.assert_allclose(file[name][:], theirs[name].numpy(), atol=2e-3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--families", nargs="*", choices=OF_STATES, default=OF_STATES)
    parser.add_argument("--flat", action="store_true")
    parser.add_argument("--baseline", action="store_true")
    asked = parser.parse_args()
    if asked.baseline:
        baseline(asked.size, asked.threads)
    elif asked.flat:
        flat(asked.size, asked.threads, asked.families)
    else:
        by_family(asked.size, asked.threads, asked.families)


if __name__ == "__main__":
    main()
