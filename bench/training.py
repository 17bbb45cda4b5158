"""Contrastive training side by side with sentence-transformers' cached loss.

Same model, same texts, same global batch, same hardware, mixed text lengths, equal chunk memory:
theirs in mini-batches of sequences (`theirs`), theirs packed by tokens (`theirs-tokens`), and ours.
Each runs in a process of its own, in turn, several times; what is reported are ratios of one run. On a
CPU a step's time is the process's own CPU time, so that other work on the machine does not blur it.

    python bench/training.py                       # a small size, for a CPU
    python bench/training.py --layers 24 --width 896 --batch 512 --budget 32768 --longest 512   # a GPU
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measured import measured
from random_models import export_untrained, make_backbone, make_texts

WAYS = ("ours", "theirs", "theirs-tokens")
TEMPERATURE = 0.05


def ours(spec: dict, batches: list[dict]) -> list[tuple[float, float]]:
    import torch

    from realign.embedder.model import Embedder
    from realign.embedder.tokens import tokenize
    from realign.engine.deepspeed_setup import build_config, decay_groups, initialize, trainable
    from realign.engine.distributed import joined
    from realign.study.embedder import EmbedderSettings
    from realign.study.loss import Loss
    from realign.training.loss import Labels
    from realign.training.step import ContrastiveStep, LocalBatch

    with joined() as world:
        on_gpu = world.device.type == "cuda"
        dtype = torch.bfloat16 if on_gpu else torch.float32
        settings = EmbedderSettings(max_length=spec["longest"])
        model = Embedder.load(spec["backbone"], settings, device=world.device, dtype=dtype).train()
        parameters = sum(p.numel() for p in trainable(model).values())
        stage = spec["stage"] if on_gpu else 0
        engine = initialize(
            model,
            decay_groups(model, 0.05),
            lambda groups: torch.optim.AdamW(groups, lr=1e-5),
            build_config(stage, "bf16" if on_gpu else "fp32", 1, parameters, 0.0),
        )
        step = ContrastiveStep(engine, world, Loss(temperature=TEMPERATURE), spec["budget"])
        told = []
        for texts in batches:
            started = clock()
            passages = [p for group in texts["passages"] for p in group]
            queries = tokenize(model.tokenizer, texts["queries"], None, spec["longest"])
            rows = tokenize(model.tokenizer, passages, None, spec["longest"])
            numbers = torch.arange(len(passages))
            batch = LocalBatch.of(
                queries, rows, Labels(numbers), len(queries), len(texts["passages"][0]), world
            )
            facts = step(batch)
            engine.step()
            told.append((facts.loss, clock() - started))
        return told


def theirs(spec: dict, batches: list[dict], by_tokens: bool) -> list[tuple[float, float]]:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    model = SentenceTransformer(spec["exported"]).train()
    on_gpu = model.device.type == "cuda"
    sequences = max(1, spec["budget"] // spec["longest"])  # as much memory in the worst case
    sizes = {"mini_batch_num_tokens": spec["budget"]} if by_tokens else {"mini_batch_size": sequences}
    loss_of = CachedMultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE, **sizes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.05)
    told = []
    for texts in batches:
        started = clock()
        columns = [texts["queries"], *map(list, zip(*texts["passages"], strict=True))]
        features = []
        for column in columns:
            made = model.preprocess(column)
            features.append({k: v.to(model.device) if hasattr(v, "to") else v for k, v in made.items()})
        with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):  # fp32 weights, as their trainer's bf16
            loss = loss_of(features, None)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        told.append((loss.item(), clock() - started))
    return told


def contender(spec: dict, way: str) -> None:
    """One way in this process: its losses, its times and its peak memory, as JSON."""
    import torch

    torch.set_num_threads(spec["threads"])
    batches = [
        make_texts(spec["batch"], spec["negatives"], spec["longest"], seed) for seed in range(spec["steps"])
    ]
    told = ours(spec, batches) if way == "ours" else theirs(spec, batches, way == "theirs-tokens")
    on_gpu = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if on_gpu else 1024 * _peak_kilobytes()
    print(
        "RESULT "
        + json.dumps({"losses": [t[0] for t in told], "seconds": [t[1] for t in told], "peak": peak})
    )


def clock() -> float:
    import torch

    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def _peak_kilobytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run(spec: dict, way: str) -> dict:
    command = [sys.executable, __file__, "--contender", way, "--spec", json.dumps(spec)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(next(line for line in said.splitlines() if line.startswith("RESULT "))[7:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--negatives", type=int, default=3)
    parser.add_argument("--longest", type=int, default=256)
    parser.add_argument("--budget", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--stage", type=int, default=2, help="ZeRO stage of ours on a GPU")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--contender", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--spec", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender:
        contender(given.spec, given.contender)
        return
    with tempfile.TemporaryDirectory() as folder:
        backbone, exported = Path(folder, "backbone"), Path(folder, "exported")
        make_backbone(backbone, given.layers, given.width, given.longest)
        export_untrained(backbone, exported, given.longest)
        spec = {**vars(given), "backbone": str(backbone), "exported": str(exported)}
        found = {way: [] for way in WAYS}
        for _ in range(given.rounds):
            for way in WAYS:
                found[way].append(run(spec, way))
    report(given, found)


def report(given: argparse.Namespace, found: dict[str, list[dict]]) -> None:
    case = (
        f"{given.layers} layers × {given.width}, batch {given.batch} × {given.negatives} negatives, "
        f"texts to {given.longest} tokens, {given.threads} thread(s)"
    )
    rates = {way: given.batch / _median_step(runs) for way, runs in found.items()}
    peaks = {way: max(r["peak"] for r in runs) for way, runs in found.items()}
    for way in WAYS:
        measured(case, f"samples a second, {way}", round(rates[way], 2))
        measured(case, f"peak memory, {way}", round(peaks[way] / 2**20), "MiB")
    for way in WAYS[1:]:
        off = abs(found["ours"][0]["losses"][0] / found[way][0]["losses"][0] - 1)
        measured(
            case,
            f"samples a second, ours / {way}",
            round(rates["ours"] / rates[way], 2),
            "×",
            "≥ 1, better 1.5",
        )
        measured(case, f"peak memory, ours / {way}", round(peaks["ours"] / peaks[way], 2), "×", "≤ 1")
        measured(case, f"relative difference of the first loss, {way}", float(f"{off:.1e}"), aim="≤ 1e-4")


def _median_step(runs: list[dict]) -> float:
    """Seconds of a step; a run's first warms up."""
    return statistics.median(s for r in runs for s in r["seconds"][1:])


if __name__ == "__main__":
    main()
