"""The parts of the check on a GPU (bench/gpu_check.py). Each measures, and raises where something is wrong.

Weights are random: shapes decide speed and memory, and equal losses of two ways need no trained model. A
part takes its sizes from `GPU` or from `TOY`, at which all of it runs on a CPU in seconds.
"""

import contextlib
import json
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measured import measured
from random_models import byte_tokenizer, export_untrained, make_texts

HERE = Path(__file__).parent
QWEN = {
    "0.5B": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
             "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936},
    "1.5B": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
             "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936},
}  # fmt: skip
SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 400}  # fmt: skip
QUERY, PASSAGE, NEGATIVES = 40, 110, 3  # tokens of texts, as docs/scale.md takes them


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    shapes: dict[str, dict[str, int]]
    queries: int  # in a batch
    budgets: tuple[int, int]  # tokens of a chunk, and of a large one
    rows: int  # of either side of a search
    texts: int  # that are encoded
    answers: int  # of a step of GRPO

    def shape(self, name: str) -> dict[str, int]:
        """A model's shape; a toy's is the same for each name."""
        return self.shapes.get(name, SMALL)


GPU = Size(QWEN, 256, (16384, 65536), 200_000, 8192, 256)
TOY = Size({}, 6, (256, 1024), 600, 40, 8)


class Place:
    """The check's folder, with the models that its parts share."""

    def __init__(self, folder: Path):
        self.folder = folder

    def model(self, name: str, size: Size) -> Path:
        """A language model of that shape with random weights in bfloat16 and a tokenizer of bytes."""
        import torch
        from transformers import Qwen2Config, Qwen2ForCausalLM

        shape = size.shape(name)
        place = self.folder / "models" / f"{name}-{shape['hidden_size']}"
        if not place.is_dir():
            beside = place.with_name(f".{place.name}")
            byte_tokenizer().save_pretrained(beside)
            config = Qwen2Config(
                **shape,
                max_position_embeddings=4096,
                tie_word_embeddings=True,
                pad_token_id=0,
                eos_token_id=1,
            )
            torch.manual_seed(0)
            Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(beside)
            beside.rename(place)
        return place

    def scratch(self, name: str) -> Path:
        """A folder of a part's own."""
        place = self.folder / "scratch" / name
        place.mkdir(parents=True, exist_ok=True)
        return place


@dataclass(frozen=True)
class Part:
    """One part of the check; `seconds` is what it may take on a fast GPU."""

    name: str
    run: Callable[[Size, Place], None]
    seconds: float = 40
    only_gpu: bool = False
    gpus: int = 1


# --- What is there --------------------------------------------------------------------------------


def versions(size: Size, place: Place) -> None:
    """The versions that were installed, the device, and what it does at best."""
    from importlib.metadata import version

    import torch
    from transformers.utils import is_flash_attn_2_available

    for name in ("torch", "transformers", "deepspeed", "sentence-transformers"):
        print(f"{name} {version(name)}")
    print(f"CUDA {torch.version.cuda}, flash-attention 2: {is_flash_attn_2_available()}")
    device = here()
    if device.type == "cuda":
        subprocess.run(["nvidia-smi"], check=True)
        facts = torch.cuda.get_device_properties(device)
        measured(facts.name, "memory", facts.total_memory / 1e9, "GB")
    measured("matrices in the precision of training", "rate", round(best_rate(size) / 1e12, 3), "TFLOP/s")


def best_rate(size: Size) -> float:
    """Operations a second in products of large matrices: no training can be faster."""
    import torch

    device = here()
    width = 8192 if size is GPU else 128
    a = torch.randn(width, width, device=device, dtype=half(device))
    for repeats in (3, 20):
        synchronize()
        began = time.perf_counter()
        for _ in range(repeats):
            a @ a
        synchronize()
    return 2 * width**3 * repeats / (time.perf_counter() - began)


def here() -> Any:
    """The device that is checked."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half(device: Any) -> Any:
    """The type of a training's computation there."""
    import torch

    return torch.bfloat16 if device.type == "cuda" else torch.float32


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def tests(*words: str) -> Callable[[Size, Place], None]:
    """A part that runs tests which need a GPU; what gradients' tests print becomes numbers."""

    def run(size: Size, place: Place) -> None:
        command = [sys.executable, "-m", "pytest", "-s", "-q", "-m", "gpu", *words]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        print(done.stdout)
        for case, off, apart in re.findall(
            r"\d ([\w-]+): ([\d.]+) of exact .*?, (\S+) of ZeRO 1", done.stdout
        ):
            measured(case, "gradient, relative error against fp32", float(off))
            measured(case, "gradient, relative distance to ZeRO 1", float(apart))
        if done.returncode:
            raise SystemExit("tests failed")

    return run


# --- Steps of training ----------------------------------------------------------------------------


@contextlib.contextmanager
def training_step(
    size: Size, place: Place, model: str, kernel: str, budget: int, checkpointing: bool
) -> Iterator[tuple[Callable[[], float], int, int]]:
    """A step to call, which gives its loss; besides the tokens of a step and the model's parameters."""
    import torch

    from realign.embedder.model import Embedder
    from realign.embedder.tokens import tokenize
    from realign.engine.deepspeed_setup import build_config, initialize_adamw, trainable
    from realign.engine.distributed import joined
    from realign.study.embedder import EmbedderSettings
    from realign.study.loss import Loss
    from realign.training.loss import Labels
    from realign.training.step import ContrastiveStep, LocalBatch

    settings = EmbedderSettings(attn_implementation=kernel, max_length=512)
    with joined() as world:
        embedder = Embedder.load(place.model(model, size), settings, dtype=half(world.device)).train()
        if checkpointing:
            embedder.model.gradient_checkpointing_enable({"use_reentrant": False})
        parameters = sum(p.numel() for p in trainable(embedder).values())
        precision = "bf16" if world.device.type == "cuda" else "fp32"
        config = build_config(2 if precision == "bf16" else 0, precision, world.size, parameters)
        engine = initialize_adamw(embedder, 0.05, config, None, lr=1e-5)
        step = ContrastiveStep(engine, world, Loss(temperature=0.05), budget)
        texts = make_texts(size.queries, NEGATIVES, 512, seed=0)
        passages = [text for group in texts["passages"] for text in group]
        queries, rows = (
            tokenize(embedder.tokenizer, part, None, 512) for part in (texts["queries"], passages)
        )
        numbers = torch.arange(len(passages))
        batch = LocalBatch.of(queries, rows, Labels(numbers), len(queries), 1 + NEGATIVES, world)

        def once() -> float:
            loss = step(batch).loss
            engine.step()
            return loss

        yield once, sum(batch.rows.lengths), parameters
        engine.destroy()


def steps(model: str, kernel: str, large: bool, checkpointing: bool) -> Callable[[Size, Place], None]:
    """A part of three steps: their speed, and their memory beside the plan's estimate."""

    def run(size: Size, place: Place) -> None:
        from realign.training.worker import memory_gb

        budget = size.budgets[large]
        words = f"{model}, {kernel}, {budget} tokens at once{', checkpointing' if checkpointing else ''}"
        with training_step(size, place, model, kernel, budget, checkpointing) as (once, tokens, parameters):
            once()
            synchronize()
            began = time.perf_counter()
            losses = [once() for _ in range(3)]
            synchronize()
            seconds = (time.perf_counter() - began) / 3
            memory = memory_gb(here())
        if not all(0 < loss < 100 for loss in losses):
            raise SystemExit(f"losses {losses}")
        embeddings = size.shape(model)["vocab_size"] * size.shape(model)["hidden_size"]
        # Forward and backward pass: 6 operations for each token and weight of a matrix.
        rate = 6 * (parameters - embeddings) * tokens / seconds
        measured(words, "tokens a second", round(tokens / seconds))
        measured(words, "model's operations / best rate (MFU)", round(rate / best_rate(size), 3))
        for name, value in memory.items():
            measured(words, name.replace("_gb", ""), round(value, 2), "GiB")
        if "reserved_gb" in memory:
            expected = estimate(size.shape(model), budget, checkpointing) / 1.073741824
            measured(
                words, "plan's estimate / reserved", round(expected / memory["reserved_gb"], 2), "", "≥ 0.85"
            )

    return run


def estimate(shape: dict[str, int], budget: int, checkpointing: bool) -> float:
    """The GB that a plan names for a training on one GPU."""
    from realign.plan.memory import Shape, training_need
    from realign.study.recipe import Hardware, Recipe

    hardware = Hardware(token_budget=budget, activation_checkpointing=checkpointing, zero_stage=2)
    return training_need(Shape.of(shape | {"model_type": "qwen2"}), Recipe(hardware=hardware), 1).total


def trace(size: Size, place: Place) -> None:
    """One step for a profile's viewer, and where Python waits for the GPU."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_gpu = here().type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with training_step(size, place, "0.5B", "auto", size.budgets[0], False) as (once, *_):
        once()
        if on_gpu:
            torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            once()
        if on_gpu:
            torch.cuda.set_sync_debug_mode("default")
        with profile(activities=activities) as profiler:
            once()
            synchronize()
    profiler.export_chrome_trace(str(place.scratch("trace") / "step.json"))
    order = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=60))
    waits = Counter(f"{w.filename}:{w.lineno}" for w in caught if "synchroni" in str(w.message))
    for where, times in waits.most_common():
        print(f"{times} waits at {where}")
    measured("0.5B, one step", "waits for the GPU", sum(waits.values()))


# --- Whole trainings, through their command's launcher ---------------------------------------------


class Training:
    """One training of the 0.5B shape in a folder of its own; each `run` goes on from the last one."""

    def __init__(self, size: Size, place: Place, name: str, queries: int, **hardware: Any):
        from realign.artifacts.store import WorkStore
        from realign.study.recipe import Train
        from realign.training.index import describe_sources
        from realign.training.train import index_data

        self.scratch = place.scratch(name)
        self.pairs = write_pairs(self.scratch / "pairs.jsonl", 8 * queries)
        self.order = Train.model_validate(
            {
                "embedder": {"max_length": 512},
                "recipe": {
                    "batches": {"size": queries, "negatives": NEGATIVES, "steps": 6},
                    "optimizer": {"learning_rate": 1e-5},
                    "hardware": {"save_every": 100, **hardware},
                },
            }
        )
        self.spec = {
            "order": self.order.model_dump(mode="json"),
            "backbone": str(place.model("0.5B", size)),
            "sources": describe_sources(index_data([self.pairs], WorkStore(self.scratch / "store"))),
            "scratch": str(self.scratch),
            "deepspeed": None,
        }

    def run(self, stop_after: int = 0) -> None:
        """Train to the end, or leave after so many steps as a job that was asked to."""
        from realign.artifacts.command import Interrupted
        from realign.engine.logs import start_logging
        from realign.training.train import train

        root, level = logging.getLogger(), logging.getLogger("realign").level
        handlers = list(root.handlers)
        start_logging(self.scratch / "train.log")
        done = threading.Event()
        watch = threading.Thread(target=self._ask_to_leave, args=(stop_after, done))
        if stop_after:
            watch.start()
        try:
            train(self.spec, self.order, self.scratch, threads=os.cpu_count() or 1)
        except Interrupted:
            if not stop_after:
                raise
        finally:
            done.set()
            root.handlers = handlers
            logging.getLogger("realign").setLevel(level)
            print(self.log())

    def _ask_to_leave(self, step: int, done: threading.Event) -> None:
        while not done.wait(0.02):
            if len(self.lines("loss")) >= step:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def log(self) -> str:
        """What the processes logged."""
        return (self.scratch / "train.log").read_text(encoding="utf-8")

    def lines(self, name: str) -> list[float]:
        """One number of each step so far."""
        from realign.engine.steplog import read_steps

        place = self.scratch / "log.jsonl"
        return [line[name] for line in read_steps(place) if name in line] if place.exists() else []


def write_pairs(place: Path, count: int) -> Path:

    texts = make_texts(count, NEGATIVES, 512, seed=1)
    rows = [
        {"query": ["", query], "pos": [positive], "neg": negatives}
        for query, (positive, *negatives) in zip(texts["queries"], texts["passages"], strict=True)
    ]
    place.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return place


def same_losses(found: Sequence[float], expected: Sequence[float], case: str) -> None:
    """Raise unless two trainings had the same losses, up to the rounding of their precision."""
    tolerance = 2e-2 if here().type == "cuda" else 1e-4
    off = max(abs(a / b - 1) for a, b in zip(found, expected, strict=True))
    measured(case, "loss, largest relative difference", off, "", f"≤ {tolerance}")
    if not off <= tolerance:
        raise SystemExit(f"losses {list(found)}, expected {list(expected)}")


def resume(size: Size, place: Place) -> None:
    """A training that is stopped and goes on is the one that was not stopped."""
    from realign.engine.checkpoints import Checkpoints

    hardware = {"token_budget": size.budgets[0], "zero_stage": 2 if here().type == "cuda" else 0}
    whole, halted = (Training(size, place, name, size.queries, **hardware) for name in ("whole", "halted"))
    whole.run()
    halted.run(stop_after=2)
    checkpoints = Checkpoints(halted.scratch / "checkpoints")
    began = time.perf_counter()
    saved = checkpoints.latest()
    if saved is None or not 2 <= saved.step < 6:
        raise SystemExit("the training did not leave a checkpoint when it was asked to leave")
    nbytes = (saved.folder / "tensors.safetensors").stat().st_size
    measured("0.5B, checkpoint", "size", round(nbytes / 1e9, 2), "GB")
    measured("0.5B, checkpoint", "checked", round(nbytes / 1e9 / (time.perf_counter() - began), 2), "GB/s")
    began = time.perf_counter()
    saved.tensors()
    measured("0.5B, checkpoint", "read again", round(nbytes / 1e9 / (time.perf_counter() - began), 2), "GB/s")
    seconds = re.findall(r" GB in ([\d.]+) s", halted.log())[-1]
    measured("0.5B, checkpoint", "seconds in which training stood still", float(seconds), "s")
    halted.run()
    same_losses(halted.lines("loss"), whole.lines("loss"), "0.5B, stopped and resumed")


def halving(size: Size, place: Place) -> None:
    """A token budget that can't fit is halved until it does, and the loss is that of a small one."""
    import torch

    from realign.plan.memory import Shape

    shape = Shape.of(size.shape("0.5B") | {"model_type": "qwen2"})
    room = torch.cuda.get_device_properties(0).total_memory
    oversized = int(1.25 * room / (shape.layers * shape.layer_bytes(2)))
    queries = -(-oversized // (QUERY + (1 + NEGATIVES) * PASSAGE))  # so that one chunk can be as large
    losses = {}
    for name, budget in (("roomy", size.budgets[0]), ("oversized", oversized)):
        training = Training(size, place, name, queries, token_budget=budget, zero_stage=2)
        training.run(stop_after=1)
        losses[name] = training.lines("loss")[:1]
    if "the batch stays" not in training.log():
        raise SystemExit(f"a budget of {oversized} tokens fitted; the plan's estimate is too high")
    measured("0.5B", "token budget that did not fit", oversized, "tokens")
    left = json.loads((training.scratch / "token_budget.json").read_text(encoding="utf-8"))
    measured("0.5B", "token budget that was left of it", left, "tokens")
    same_losses(losses["oversized"], losses["roomy"], "0.5B, after memory ran out")


def across(reduce_once: bool) -> Callable[[Size, Place], None]:
    """A part that trains on two GPUs, with the loss of one."""

    def run(size: Size, place: Place) -> None:
        name = "once" if reduce_once else "chunks"
        more = {"token_budget": size.budgets[0], "zero_stage": 2, "reduce_once": reduce_once}
        one, two = (Training(size, place, f"{name}-{n}", size.queries, processes=n, **more) for n in (1, 2))
        one.run()
        two.run()
        speeds = [sorted(training.lines("tokens_per_second"))[3] for training in (one, two)]
        measured(f"0.5B, ZeRO 2, reduced by {name}", "speed, two GPUs / one", round(speeds[1] / speeds[0], 2))
        same_losses(two.lines("loss"), one.lines("loss"), f"0.5B, two GPUs, reduced by {name}")

    return run


# --- The other stages ------------------------------------------------------------------------------


def padding(size: Size, place: Place) -> None:
    """How far padding, or a pack's neighbours, move states at real depth."""
    from realign.embedder.attention import assert_attention
    from realign.embedder.model import load_model

    log, kept = logging.getLogger("realign.embedder.attention"), []
    handler = logging.Handler()
    handler.emit = lambda record: kept.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        for kernel in ("sdpa", "packed", "auto"):
            model = load_model(place.model("1.5B", size), "bidirectional", kernel, here(), half(here()))
            assert_attention(model, "bidirectional", f"1.5B, {kernel}")
    finally:
        log.removeHandler(handler)
    for line in kept:
        worst = max(map(float, re.findall(r"\d\.\de[+-]\d+", line.split("(")[0])))
        measured(line.split(":")[0], "states moved by padding or neighbours, relative", worst, "", "≤ 0.1")


def script(name: str, on_gpu: Sequence[str], toy: Sequence[str]) -> Callable[[Size, Place], None]:
    """A part that is another benchmark with options of its own."""

    def run(size: Size, place: Place) -> None:
        words, before = (on_gpu if size is GPU else toy), sys.argv
        sys.argv = [f"{name}.py", *words]
        try:
            runpy.run_path(str(HERE / f"{name}.py"), run_name="__main__")
        finally:
            sys.argv = before

    return run


def search(size: Size, place: Place) -> None:
    """Exact nearest neighbours, beside float64 products for some of the queries."""
    import numpy as np
    import torch

    from realign.vectors.search import top_k

    rng = np.random.default_rng(0)
    corpus, queries = (
        rng.standard_normal((size.rows, 1024 if size is GPU else 32), np.float32) for _ in "ab"
    )
    began = time.perf_counter()
    scores, places = top_k(queries, corpus, 50)
    seconds = time.perf_counter() - began
    case = f"{size.rows:,} × {size.rows:,} × {corpus.shape[1]}"
    measured(case, "queries a second", round(size.rows / seconds))
    some = rng.choice(size.rows, min(size.rows, 512), replace=False)
    wide = (torch.from_numpy(side).to(here(), torch.float64) for side in (queries[some], corpus))
    exact = (next(wide) @ next(wide).T).topk(50)
    if not np.array_equal(exact.indices.cpu().numpy(), places[some]):
        raise SystemExit("neighbours differ from those in float64")
    measured(
        case, "largest difference to float64", float(np.abs(exact.values.cpu().numpy() - scores[some]).max())
    )


def encode(size: Size, place: Place) -> None:
    """Encoding an exported embedder, beside sentence-transformers with the same weights and precision."""
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from realign.evaluation import models

    exported = place.scratch("encode") / "exported"
    export_untrained(place.model("0.5B", size), exported, 512)
    dtype = half(here())
    ours = models.load(exported, "ours", dtype=str(dtype).removeprefix("torch."))
    theirs = SentenceTransformer(str(exported), device=str(here()), model_kwargs={"dtype": dtype})
    texts = [
        text for group in make_texts(size.texts // 4, NEGATIVES, 512, seed=2)["passages"] for text in group
    ]
    ways = {"ours": lambda part: ours.encode(part), "theirs": lambda part: theirs.encode(part, batch_size=64)}
    made, rates = {}, {}
    for name, way in ways.items():
        way(texts[:64])
        began = time.perf_counter()
        made[name] = np.asarray(way(texts))
        rates[name] = len(texts) / (time.perf_counter() - began)
        measured("0.5B", f"texts a second, {name}", round(rates[name], 1))
    measured(
        "0.5B",
        "texts a second, ours / sentence-transformers",
        round(rates["ours"] / rates["theirs"], 2),
        "×",
        "≥ 1",
    )
    cosine = float((made["ours"] * made["theirs"]).sum(axis=1).min())
    measured("0.5B", "smallest cosine between both's vectors", round(cosine, 5), "", "≥ 0.99")
    if not cosine >= 0.99:
        raise SystemExit("vectors differ from sentence-transformers'")


def grpo(size: Size, place: Place) -> None:
    """Two steps of GRPO: answers, rewards, update; the second one counts."""
    from realign.artifacts.command import execute
    from realign.artifacts.store import WorkStore
    from realign.commands import load_command

    folder = place.scratch("grpo")
    rows = [
        {"id": str(i), "question": f"What is {i} + {i}?", "answer": str(2 * i), "trace": "", "task": "sum", "difficulty": 1}
        for i in range(32)
    ]  # fmt: skip
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = load_command("rlvr")
    settings = {
        "batch": max(1, size.answers // 8),
        "optimisation": {"steps": 2, "learning_rate": 1e-6, "precision": "auto"},
        "rollouts": {"group": 8, "max_new_tokens": 128 if size is GPU else 8, "batch": size.answers},
        "hardware": {"zero_stage": 2 if here().type == "cuda" else 0, "processes": 1},
    }
    outputs = {name: folder / name for name in command.outputs}
    inputs = {"base": place.model("0.5B", size), "problems": folder / "problems.jsonl"}
    execute(
        command,
        command.settings.model_validate(settings),
        inputs,
        outputs,
        WorkStore(folder / "store"),
        force=True,
    )
    *_, last = (json.loads(line) for line in outputs["history"].read_text(encoding="utf-8").splitlines())
    case = f"0.5B, {size.answers} answers"
    measured(case, "seconds of a step of GRPO", round(last["seconds"], 2), "s")
    measured(case, "tokens of an answer", round(last["answer_tokens"], 1))


# In the order of their worth: where minutes are few, the last ones are left for another run.
PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part("versions", versions, 20),
        Part("tests", tests("tests/embedder", "tests/engine", "tests/states", "tests/vectors", "tests/backbones",
                            "tests/evaluation", "tests/mining", "tests/hrsa"), 90, only_gpu=True),
        Part("gradients", tests("tests/training"), 90, only_gpu=True),
        Part("steps-0.5B-sdpa", steps("0.5B", "sdpa", False, False), 25),
        Part("steps-0.5B-packed", steps("0.5B", "packed", False, False), 25),
        Part("steps-1.5B-packed-checkpointing", steps("1.5B", "packed", True, True), 40),
        Part("steps-1.5B-packed", steps("1.5B", "packed", False, False), 40),
        Part("resume", resume, 80),
        Part("halving", halving, 60, only_gpu=True),
        Part("padding", padding, 25),
        Part("search", search, 30),
        Part("grpo", grpo, 40),
        Part("encode", encode, 40),
        Part("trace", trace, 30),
        Part("extraction", script("extraction", ("--layers", "24", "--width", "896", "--texts", "2000",
                                                 "--length", "512", "--budget", "16384"),
                                  ("--layers", "2", "--width", "128", "--texts", "8", "--repeats", "1")), 40),
        Part("steps-0.5B-packed-large", steps("0.5B", "packed", True, False), 25),
        Part("steps-1.5B-sdpa", steps("1.5B", "sdpa", False, False), 40),
        Part("steps-1.5B-sdpa-checkpointing", steps("1.5B", "sdpa", False, True), 40),
        Part("beside", script("training", ("--layers", "24", "--width", "896", "--batch", "256", "--longest", "512",
                                           "--budget", "32768", "--steps", "3", "--rounds", "1"), ()), 90, only_gpu=True),
        Part("ranks-2", tests("tests/engine/test_failing_ranks.py"), 120, only_gpu=True, gpus=2),
        Part("gradients-2", tests("tests/training/test_bf16_gradients.py", "-k", "two_gpus"), 120, only_gpu=True, gpus=2),
        Part("across-once", across(True), 90, gpus=2),
        Part("across-chunks", across(False), 90, gpus=2),
    )
}  # fmt: skip
