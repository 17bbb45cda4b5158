"""What extraction costs over the bare forward pass: same model, same batches, in one run.

    python bench/extraction.py                           # CPU, a minute or two
    python bench/extraction.py --layers 24 --width 896 --texts 4000 --length 512   # a GPU, bfloat16

The bare pass runs the model over the corpus in the same batches and throws the states away. The
extraction runs it with its taps, keeps the selected tokens of all layers and the pooled states, and
writes both HDF5 files. Loading the model and making the plan are outside of both. Both are timed in
turns, and the ratio of the medians is printed; the aim is at most 1.15.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch
from measured import measured
from transformers import AutoModel, Qwen2Config

from realign.embedder.tokens import Rows, by_token_budget, collate
from realign.states.capture import layer_names
from realign.states.format import write_states
from realign.states.plan import Corpus, make_plan
from realign.states.shards import STORED, ShardWriter
from realign.study.states import Extract


class Numbers:
    """Stands in for a tokenizer: texts are already numbers."""

    def __call__(self, texts, max_length, **_):
        return {"input_ids": [json.loads(text)[:max_length] for text in texts]}


def main() -> None:
    given = arguments()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    config = Qwen2Config(
        vocab_size=1000,
        hidden_size=given.width,
        intermediate_size=given.width * 4,
        num_hidden_layers=given.layers,
        num_attention_heads=given.width // 64,
        num_key_value_heads=2,  # as Qwen2.5 has them up to 1.5B
        is_causal=False,
        use_cache=False,
    )
    model = AutoModel.from_config(config, attn_implementation="sdpa").to(device, dtype).eval()
    draw = random.Random(0)
    lengths = [draw.randint(given.length // 4, given.length) for _ in range(given.texts)]
    texts = [json.dumps([draw.randrange(1000) for _ in range(n)]) for n in lengths]
    corpus = Corpus([str(i) for i in range(len(texts))], texts, None)
    for storage in given.storage:
        for kept in (None, sum(lengths) // 10):
            measure(model, corpus, given, storage, kept)


def measure(model, corpus: Corpus, given: argparse.Namespace, storage: str, kept: int | None) -> None:
    settings = Extract.model_validate(
        {"tokens": {"count": kept}, "storage": storage, "hardware": {"token_budget": given.budget}}
    )
    layers = layer_names(given.layers, before_norm=False)
    row_bytes = len(layers) * given.width * STORED[storage].itemsize
    plan = make_plan(corpus, Path("corpus"), Numbers(), settings, row_bytes)
    bare, whole = [], []
    for turn in range(given.repeats + 1):
        a, b = (
            timed(bare_pass, model, plan, given.budget),
            timed(extraction, model, plan, corpus, settings, layers),
        )
        if turn:  # the first turn warms up
            bare.append(a)
            whole.append(b)
    (bare_wall, bare_cpu), (wall, cpu) = (
        map(statistics.median, zip(*runs, strict=True)) for runs in (bare, whole)
    )
    tokens = sum(len(plan.ids_of(text)) for text in range(plan.texts))
    case = f"{tokens} tokens, {given.layers} × {given.width}, keep {kept or 'all'} as {storage}"
    measured(case, "time, extraction / bare forward pass", round(wall / bare_wall, 3), "×", "≤ 1.15")
    measured(case, "processor time, extraction / bare forward pass", round(cpu / bare_cpu, 3), "×", "≤ 1.15")
    measured(case, "seconds, bare forward pass", round(bare_wall, 2), "s")


def bare_pass(model, plan, budget: int) -> None:
    for shard in range(plan.shards):
        ids = [plan.ids_of(text).tolist() for text in plan.shard(shard)]
        for batch in by_token_budget([len(row) for row in ids], budget):
            rows = Rows([ids[i] for i in batch], [0] * len(batch))
            padded = collate(rows, 0).to(model.device)
            with torch.inference_mode():
                model(input_ids=padded.input_ids, attention_mask=padded.attention_mask)


def extraction(model, plan, corpus, settings, layers) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        writer = ShardWriter(model, plan, settings, scratch)
        for shard in range(plan.shards):
            writer.write(shard)
        for pooled in (False, True):
            out = scratch / f"{pooled}.h5"
            facts = {"storage": settings.storage}
            write_states(out, plan, corpus, scratch, layers, model.config.hidden_size, facts, pooled)


def timed(work, *given) -> tuple[float, float]:
    """Seconds on the clock, and of this process's processor time: steadier on a busy machine."""
    started, used = time.perf_counter(), time.process_time()
    work(*given)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, time.process_time() - used


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument(
        "--length", type=int, default=128, help="longest text; lengths are drawn from a quarter of it"
    )
    parser.add_argument("--budget", type=int, default=2048, help="tokens in a forward pass")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--storage", nargs="+", default=["float32", "bfloat16"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
