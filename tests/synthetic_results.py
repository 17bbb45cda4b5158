"""Made-up tidy results for any study, by default one in the shape of the paper's own.

They exist to try every drawing before any model is trained. Nothing in them was measured, and every
page drawn from them says so. Run `python -m synthetic_results DIR` for 9 pairs, 2 corpora and
up to 36 layers, then `realign figures --results DIR`.
"""

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from realign.measures.families import parts_of_file
from realign.names import EmbedderId, is_embedder
from realign.results.columns import COLUMNS
from realign.results.statistics import random_rotation_entropy
from realign.seeds import derive_seed
from realign.study.claims import Claims
from realign.study.description import Comparison, Description, PairEntry
from realign.study.series import SeriesEntry

SEEDS = (0, 1, 2)
STEPS = (200, 400, 600)
RECIPES: dict[str, Any] = {
    name: {
        "attention": "bidirectional", "pooling": "mean", "lora": lora, "checkpoints": checkpoints,
        "batches": {"size": 2048, "negatives": 3, "steps": None, "epochs": 1},
        "optimizer": {"learning_rate": rate, "schedule": "cosine", "warmup": 0.03, "weight_decay": 0.05},
        "loss": {"temperature": 0.02}, "precision": "bf16",
    }
    for name, rate, lora, checkpoints in (
        ("full", 2e-5, None, list(STEPS)), ("lora", 2e-4, {"rank": 16, "alpha": 32}, [])
    )
}  # fmt: skip
# name: (hub id, layers, width, parameters)
BACKBONES = {
    "Qwen2.5-Math-1.5B": ("Qwen/Qwen2.5-Math-1.5B", 28, 1536, 1.5e9),
    "DS-1.5B": ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 28, 1536, 1.5e9),
    "Qwen3-0.6B-Base": ("Qwen/Qwen3-0.6B-Base", 28, 1024, 0.6e9),
    "Qwen3-0.6B": ("Qwen/Qwen3-0.6B", 28, 1024, 0.6e9),
    "Qwen3-4B": ("Qwen/Qwen3-4B", 36, 2560, 4.0e9),
    "Polaris-4B": ("POLARIS-Project/Polaris-4B-Preview", 36, 2560, 4.0e9),
    "DS-7B": ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 28, 3584, 7.6e9),
    "Polaris-7B": ("POLARIS-Project/Polaris-7B-Preview", 28, 3584, 7.6e9),
    "Qwen2.5-7B": ("Qwen/Qwen2.5-7B", 28, 3584, 7.6e9),
    "zero-ppo-7B": ("princeton-nlp/zero__ppo__think__Qwen2.5-7B", 28, 3584, 7.6e9),
    "Qwen2.5-1.5B": ("Qwen/Qwen2.5-1.5B", 28, 1536, 1.5e9),
    "SimpleRL-1.5B": ("hkust-nlp/Qwen-2.5-1.5B-SimpleRL-Zoo", 28, 1536, 1.5e9),
    "Qwen2.5-0.5B": ("Qwen/Qwen2.5-0.5B", 24, 896, 0.5e9),
    "SimpleRL-0.5B": ("hkust-nlp/Qwen-2.5-0.5B-SimpleRL-Zoo", 24, 896, 0.5e9),
    "ProRL-1.5B": ("nvidia/Nemotron-Research-Reasoning-Qwen-1.5B", 28, 1536, 1.5e9),
    "PSR-4B": ("TianHongZXY/Qwen3-4B-PSR", 36, 2560, 4.0e9),
}
# left, right, kind, tags, embed, how much it moved (0 to 1)
PAIRS = (
    ("Qwen2.5-Math-1.5B", "DS-1.5B", "sft", (), True, 0.95),
    ("Qwen3-0.6B-Base", "Qwen3-0.6B", "sft", (), True, 0.80),
    ("Qwen3-4B", "Polaris-4B", "rlvr", (), False, 0.45),
    ("DS-7B", "Polaris-7B", "rlvr", (), False, 0.30),
    ("Qwen2.5-7B", "zero-ppo-7B", "rlvr", (), False, 0.30),
    ("Qwen2.5-1.5B", "SimpleRL-1.5B", "rlvr", (), True, 0.12),
    ("Qwen2.5-0.5B", "SimpleRL-0.5B", "rlvr", (), True, 0.05),
    ("DS-1.5B", "ProRL-1.5B", "rlvr", ("prolonged",), True, 0.60),
    ("Qwen3-4B", "PSR-4B", "rlvr", (), True, 0.25),
)
# Two checkpoints on the way of a series: name, step, how much it moved
ALONG = (("ProRL-1.5B-step500", 500.0, 0.30), ("ProRL-1.5B-step1000", 1000.0, 0.45))
CORPORA = {"reasoning-hard": "Reasoning texts, hard", "mmlu-pro": "MMLU-Pro"}
BENCHMARKS = {"MTEB(Multilingual, v2)": 40, "MTEB(Code, v1)": 12, "BRIGHT": 12}
DATASETS = {
    "FEVER": 105_893, "NaturalQuestions": 97_912, "NLI": 277_217, "MSMARCO": 499_184, "Quora": 94_443,
    "Mr.TyDi": 102_796, "DuReader": 17_493, "TriviaQA": 65_465, "HotpotQA": 167_808, "SQuAD": 84_494,
    "T2Ranking": 90_467,
}  # fmt: skip
NEAR = (5, 10, 50)


def _random(*names: object) -> np.random.Generator:
    return np.random.default_rng(derive_seed(0, "synthetic", *names))


def _grid(layers: int, moved: float, width: float, noise: np.random.Generator) -> np.ndarray:
    """Layers against layers: high on the diagonal, lower far from it and with depth."""
    left, right = np.indices((layers + 1, layers + 1))
    depth = np.maximum(left, right) / layers
    level = 1 - moved * (0.25 + 0.75 * depth**1.5)
    near = np.exp(-(((left - right) / (width * layers)) ** 2))
    bumps = 0.02 * noise.standard_normal(left.shape)
    grid = np.clip(level * (0.25 + 0.75 * near) + bumps, 0, 1)
    grid[0, 1:] *= 0.6
    grid[1:, 0] *= 0.6
    return grid


def _row(measure: str, statistic: str, value: float, half: float = np.nan, **more: Any) -> dict[str, Any]:
    return {
        "measure": measure, "statistic": statistic, "value": float(value), "ci_low": float(value - half),
        "ci_high": float(value + half), "se": float(half / 2.09), "df": 19.0, "n": 50_000, **more,
    }  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """How deep and wide a comparison's models are, and how far apart they moved (0 to 1)."""

    layers: int
    width: int
    moved: float


def _linear(shape: Shape, noise: np.random.Generator) -> Iterator[dict[str, Any]]:
    layers, moved = shape.layers, shape.moved
    for measure, statistic, by, width in (
        ("correlation", "mean", min(1.0, 1.25 * moved), 0.12),
        ("cka", "value", 0.25 * moved**1.5 + 0.45 * max(0.0, moved - 0.7), 0.45),
        ("cka_debiased", "value", 0.3 * moved**1.5 + 0.5 * max(0.0, moved - 0.7), 0.45),
    ):
        grid = _grid(layers, by, width, noise)
        for (left, right), value in np.ndenumerate(grid):
            half = 0.015 if left == right else np.nan
            yield _row(measure, statistic, value, half, layer_left=left, layer_right=right)
    haar = random_rotation_entropy(shape.width)
    for layer in range(1, layers + 1):
        about = {"layer_left": layer, "layer_right": layer}
        entropy = np.clip(1 - moved * (0.8 + 0.25 * layer / layers), 0.1, 1) + 0.004 * noise.standard_normal()
        yield _row("procrustes", "inverse_row_entropy", entropy, 0.01, **about)
        yield _row("procrustes", "inverse_row_entropy_haar", haar, **about)
        yield _row("procrustes", "residual", 0.6 * moved, 0.01, **about)
        yield _row("basis_kept", "value", entropy, 0.01, **about)


def _neighbours(shape: Shape, noise: np.random.Generator) -> Iterator[dict[str, Any]]:
    depth = np.linspace(0, 1, shape.layers + 1)
    for k in NEAR:
        curve = 1 - min(0.93, 1.05 * shape.moved**0.5) * (0.55 + 0.45 * depth)
        curve = np.clip(curve * (1 + 0.05 * np.log(k / 5)) + 0.01 * noise.standard_normal(len(depth)), 0, 1)
        for layer, value in enumerate(curve):
            yield _row("knn_overlap", "mean", value, 0.012, layer_left=layer, layer_right=layer, k=k)


def _probe(shape: Shape, noise: np.random.Generator) -> Iterator[dict[str, Any]]:
    drop = 0.35 * max(0.0, shape.moved - 0.7) / 0.3 + 0.02 * shape.moved
    for split, own in (("train", 0.93), ("dev", 0.90), ("test", 0.895)):
        about = {"task": "label", "split": split, "n": 7600}
        about |= {"layer_left": shape.layers, "layer_right": shape.layers}
        left = own + 0.004 * noise.standard_normal()
        right = own - drop + 0.004 * noise.standard_normal()
        yield _row("probe", "accuracy", left, 0.01, direction="left", **about)
        yield _row("probe", "accuracy", right, 0.01, direction="right", **about)
        yield _row("probe", "accuracy_change", right - left, 0.01, direction="right", **about)


def _extra(_: Shape, noise: np.random.Generator) -> Iterator[dict[str, Any]]:
    yield _row("rsa", "spearman", 0.8 + 0.05 * noise.standard_normal(), 0.02)


def _weights(shape: Shape, noise: np.random.Generator) -> Iterator[dict[str, Any]]:
    """The whole model, and each layer's kinds."""
    places = [("", None), *itertools.product(("attention", "mlp", "norm"), range(1, shape.layers + 1))]
    for part, layer in (*places, ("embedding", 0), ("head", None)):
        about = {"part": part, "layer_left": layer, "layer_right": layer}
        for measure, statistic, value in (
            ("update_norm", "norm", 0.05 * shape.moved),
            ("update_sparsity", "bf16", 1 - 0.8 * shape.moved),
            ("update_rank", "share", 0.4),
            ("update_on_largest", "share", 0.08),
            ("principal_energy", "times_chance", 0.6 + shape.moved),
            ("singular_values", "change", 0.01 * shape.moved),
            ("subspace_angles", "mean", 0.2 * shape.moved),
        ):
            if part == "norm" and measure not in ("update_norm", "update_sparsity"):
                continue
            yield _row(measure, statistic, value * (1 + 0.1 * noise.standard_normal()), 0.1 * value, **about)


def _survival(shape: Shape, noise: np.random.Generator) -> Iterator[dict[str, Any]]:
    for layer in (None, *range(shape.layers + 1)):
        about = {"part": "", "layer_left": layer, "layer_right": layer}
        kept = 0.9 - 0.3 * shape.moved + 0.02 * noise.standard_normal()
        yield _row("survival", "coefficient", kept, 0.05, **about)
        yield _row("survival", "explained", 0.4 * kept, 0.05, **about)
        yield _row("survival", "floor", abs(0.02 * noise.standard_normal()), 0.03, **about)
        yield _row("update_cosine", "training", 0.6, 0.05, **about)
        yield _row("update_cosine", "seeds", 0.5, 0.05, **about)


def _behaviour(shape: Shape, noise: np.random.Generator) -> Iterator[dict[str, Any]]:
    kl = 0.01 + 0.5 * shape.moved
    for part, bins in (("", 1), ("entropy", 5), ("position", 5)):
        for k in range(bins):
            about = {"part": part, "k": k if part else None}
            for way, scale in (("left_right", 1.0), ("right_left", 1.2)):
                value = kl * scale * (1 + 0.4 * k) * (1 + 0.05 * noise.standard_normal())
                yield _row("token_kl", way, value, 0.1 * value, **about)
    for layer in range(shape.layers + 1):
        value = kl * (0.2 + 0.8 * layer / shape.layers)
        yield _row("lens_kl", "between", value, 0.1 * value, layer_left=layer, layer_right=layer)
    for measure, statistic, value, half in (
        ("token_kl", "half_share", 0.1, 0.01), ("top1_agreement", "share", 1 - 0.5 * shape.moved, 0.02),
        ("token_entropy", "change", -0.3 * shape.moved, 0.02), ("perplexity", "ratio", 1 + 0.1 * kl, 0.01),
    ):  # fmt: skip
        yield _row(measure, statistic, value, half)
    for direction in ("right", "back"):
        yield _row("stitching", "affine", 0.1 + 0.2 * shape.moved, 0.02, direction=direction)


FAMILIES = {
    "linear": _linear, "neighbours": _neighbours, "probe": _probe, "extra": _extra, "weights": _weights,
    "survival": _survival, "behaviour": _behaviour,
}  # fmt: skip


def _about(model: str) -> tuple[str, int | None, int | None]:
    """A model's backbone, seed and step."""
    if not is_embedder(model):
        return model, None, None
    parsed = EmbedderId.parse(model)
    return parsed.backbone, parsed.seed, parsed.step


def _moved(description: Description, compared: Comparison) -> float:
    """How far a comparison's models are apart: by kind, by tags, and by how long they were trained."""
    if compared.kind == "control":
        return 0.10 if compared.stage == "embedder" else 1.0
    pair = next(p for p in description.pairs if p.name == compared.pair)
    told = description.backbones.get(pair.right, {}).get("moved")
    start = told or (0.95 if pair.kind == "sft" else 0.6 if "prolonged" in pair.tags else 0.2)
    end = 0.55 * start if pair.kind == "sft" else 0.18 + 0.15 * start
    step = _about(compared.left)[2]
    if compared.stage == "backbone":
        return start
    return end + (start - end) * np.exp(-step / 80) if step else end


def measure_rows(description: Description, compared: Comparison, file: str) -> list[dict[str, Any]]:
    """The rows of one file of measures."""
    corpus, attention, family = parts_of_file(file)
    backbone, seed_left, step = _about(compared.left)
    facts = description.backbones.get(backbone, {})
    scale = 0.35 if "mmlu" in corpus and compared.kind != "control" else 1.0
    scale *= 0.95 if attention == "causal" else 1.0
    shape = Shape(facts.get("layers", 4), facts.get("width", 64), _moved(description, compared) * scale)
    tags = next((p.tags for p in description.pairs if p.name == compared.pair), ())
    common = {
        "stage": compared.stage, "step": step, "recipe": compared.recipe or None, "pair": compared.pair,
        "kind": compared.kind, "tags": ",".join(tags), "corpus": corpus, "token_rule": "all",
        "attention": attention, "preset": "", "seed_left": seed_left,
        "seed_right": _about(compared.right)[1],
    }  # fmt: skip
    noise = _random(compared.left, compared.right, file)
    rows = [{**common, **row} for row in FAMILIES[family](shape, noise)]
    return rows + [{**common, **_row("sample", s, n)} for s, n in (("tokens", 5e4), ("texts", 57))]


def score_rows(description: Description, model: str) -> list[dict[str, Any]]:
    """The rows of one model's benchmark scores."""
    backbone, seed, step = _about(model)
    recipe = EmbedderId.parse(model).recipe if is_embedder(model) else None
    made = {p.right: p for p in description.pairs}
    lost = 0.038 if description.recipes.get(recipe or "", {}).get("lora") else 0.0
    lost += 0.02 if backbone in made and made[backbone].kind == "sft" else 0.0
    size = 0.03 * np.log10(description.backbones.get(backbone, {}).get("parameters", 1e6) / 1e6)
    rows = []
    for benchmark, tasks in description.benchmarks.items():
        for task in tasks:
            hard = _random("task", task).uniform(-0.1, 0.1)
            noise = _random(model, task).normal(0, 0.004) + _random(backbone, task).normal(0, 0.004)
            level = 0.15 if benchmark == "BRIGHT" else 0.5
            rows.append({
                "embedder": model, "backbone": backbone, "recipe": recipe, "seed": seed, "step": step,
                "preset": "", "benchmark": benchmark, "task": task, "task_type": "Retrieval",
                "split": "test", "subset": "default", "metric": "main_score",
                "value": float(np.clip(level + hard + size + noise - lost, 0, 1)), "mteb_version": "2.26.24",
            })  # fmt: skip
    return rows


def query_rows(description: Description, model: str) -> list[dict[str, Any]]:
    """The scores of single queries: each task has one."""
    return [{**row, "query": "1", "metric": "ndcg_at_10"} for row in score_rows(description, model)]


def training_rows(description: Description, model: str) -> list[dict[str, Any]]:
    """The rows of one training's log."""
    embedder = EmbedderId.parse(model)
    noise = _random("training", model)
    last = int(1.3 * max(description.recipes.get(embedder.recipe, {}).get("checkpoints") or [600]))
    rows: list[dict[str, Any]] = []
    for step in range(1, last + 1, max(1, last // 130)):
        loss = 0.55 + 1.6 * np.exp(-12 * step / last) + 0.05 * noise.standard_normal()
        rows.append({"step": step, "metric": "loss", "value": loss})
        rows.append({"step": step, "metric": "tokens", "value": 1e6})
    for step in (0, last // 8, last // 4, last // 2, last):
        done = np.exp(-10 * step / last)
        rows.append({"step": step, "metric": "val_loss", "value": 0.6 + 1.5 * done + noise.normal(0, 0.03)})
        rows.append(
            {"step": step, "metric": "val_ndcg_at_10", "value": 0.62 - 0.4 * done + noise.normal(0, 0.01)}
        )
    about = {"backbone": embedder.backbone, "recipe": embedder.recipe, "seed": embedder.seed}
    return [{**about, **row} for row in rows]


def backbone_rows(description: Description, name: str) -> list[dict[str, Any]]:
    """The rows of one backbone."""
    pair = next((p for p in description.pairs if p.right == name), None)
    common = {"backbone": name, "kind": pair.kind if pair else "base", "base": pair.left if pair else ""}
    rate = 0.7 if pair else 0.45
    parameters = description.backbones.get(name, {}).get("parameters", 1e6)
    gained = {"metric": "pass_rate_gain", "split": "heldout", "value": 0.25, "ci_low": 0.21, "ci_high": 0.29}
    read = {
        "metric": "perplexity_ratio", "split": "heldout", "value": 1.02, "ci_low": 1.01, "ci_high": 1.03
    }  # fmt: skip
    return [
        *({**common, **compared, "n": 200} for compared in (gained, read) if pair),
        {**common, "metric": "parameters", "value": parameters},
        {**common, "metric": "perplexity", "split": "heldout", "value": 9.0, "ci_low": 8.8, "ci_high": 9.2},
        {
            **common, "metric": "pass_rate", "split": "heldout", "value": rate, "ci_low": rate - 0.04,
            "ci_high": rate + 0.04, "n": 200,
        },
    ]  # fmt: skip


def mining_rows(description: Description, name: str) -> list[dict[str, Any]]:
    """The rows of one mined data set."""
    noise = _random("mining", name)
    pairs = description.datasets.get(name, {}).get("pairs", 1000)
    counts = {
        "pairs_in": pairs * 1.04, "pairs_out": pairs, "candidates": pairs * 100, "kept": pairs * 3,
        "refused_margin": pairs * 6, "refused_duplicate": pairs * 2, "refused_positive": pairs,
    }  # fmt: skip
    rows = [{"dataset": name, "statistic": s, "value": float(v)} for s, v in counts.items()]
    for side, mean in (("positive_score", 0.78), ("negative_score", 0.6)):
        scores = noise.normal(mean, 0.06, 4000)
        for percent in (5, 25, 50, 75, 95):
            value = float(np.percentile(scores, percent))
            rows.append({"dataset": name, "statistic": f"{side}_p{percent:02d}", "value": value})
    return rows


def audit_rows(description: Description, name: str) -> list[dict[str, Any]]:
    """The rows of one audited data set."""
    base = 0.04 + 0.02 * (len(name) % 4)
    rows = []
    for by, bounds in (
        ("all", [(None, None)]),
        ("rank", [(0, 3), (4, 9), (10, 30), (31, 99)]),
        ("margin", [(0.03, 0.06), (0.06, 0.1), (0.1, 0.2), (0.2, 0.5)]),
    ):
        for i, (least, greatest) in enumerate(bounds):
            value, half = base * (1.6 - 0.4 * i if least is not None else 1), 0.02 if by == "all" else 0.035
            rows.append(
                {
                    "dataset": name, "judge": "made up", "by": by, "least": least, "greatest": greatest,
                    "value": value, "ci_low": max(0, value - half), "ci_high": value + half,
                    "judged": value + 0.03, "n": 500.0 if by == "all" else 125.0,
                }
            )  # fmt: skip
    return rows


OTHERS = {
    "scores": score_rows,
    "queries": query_rows,
    "training": training_rows,
    "backbones": backbone_rows,
    "mining": mining_rows,
    "audits": audit_rows,
}


def fill(description: Description, results: Path) -> None:
    """Write made-up tidy results for every part of a description, and the description itself."""
    tidy = results / "tidy"
    for compared in description.compared:
        for file in compared.files:
            path = tidy / f"measures/{compared.left}--vs--{compared.right}/{file}.parquet"
            _write(path, "measures", description.name, measure_rows(description, compared, file))
    for part in description.parts:
        if part.table in OTHERS:
            rows = OTHERS[part.table](description, part.model)
            _write(tidy / part.path, part.table, description.name, rows)
    marked = description.model_copy(update={"synthetic": True})
    (tidy / "study.json").write_text(marked.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _write(path: Path, table: str, study: str, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS[table])
    frame["study"] = study
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)


def paper_shaped() -> Description:
    """A description in the shape of the paper's study: its pairs, corpora, benchmarks, seeds."""
    moved = {right: m for _, right, _, _, _, m in PAIRS}
    pairs = tuple(
        PairEntry(name=f"{left}--vs--{right}", left=left, right=right, kind=kind, tags=tags, embed=embed)  # type: ignore[arg-type]
        for left, right, kind, tags, embed, _ in PAIRS
    )
    start, end = "DS-1.5B", "ProRL-1.5B"
    names = [name for name, *_ in ALONG]
    along = tuple(
        PairEntry(name=f"{left}--vs--{right}", left=left, right=right, kind="rlvr", embed=False, path=path)
        for left, right, path in (
            *((start, name, "start") for name in names),
            *((left, right, "step") for left, right in itertools.pairwise([*names, end])),
        )
    )
    sides = list(dict.fromkeys(n for p in pairs if p.embed for n in (p.left, p.right)))
    trained = [str(EmbedderId(n, "full", s)) for n in sides for s in SEEDS]
    trained += [str(EmbedderId(n, "lora", SEEDS[0])) for n in sides]
    return Description(
        name="synthetic",
        title="Synthetic results in the shape of the paper's study",
        question="Do the drawings work before anything is measured?",
        scope="Nothing: every number was made up to try the drawings.",
        synthetic=True,
        seeds=SEEDS,
        backbones={
            n: {
                "hub": hub, "source": hub, "layers": layers, "width": width,
                "parameters": size, "moved": moved.get(n, 0.0),
            }
            for n, (hub, layers, width, size) in BACKBONES.items()
        }
        | {n: {"source": "made up", "layers": 28, "width": 1536, "moved": m} for n, _, m in ALONG},
        pairs=(*pairs, *along),
        series=(
            SeriesEntry(name=end, axis="step", kind="rlvr", start=start,
                        places=((start, 0.0), *((n, step) for n, step, _ in ALONG), (end, 2000.0))),
        ),
        recipes=RECIPES,
        corpora={n: {"label": label, "source": "made up"} for n, label in CORPORA.items()},
        probe={"test": 0.1, "seeds": 1},
        datasets={n: {"source": "made up", "pairs": count} for n, count in DATASETS.items()},
        benchmarks={b: [f"{b.lower()}-{i}" for i in range(n)] for b, n in BENCHMARKS.items()},
        compared=(*_comparisons(pairs, sides), *_along(along)),
        scored=tuple(trained),
        judged=(*BACKBONES, *names),
        trained=tuple(trained),
        mined=tuple(DATASETS),
        audited=tuple(DATASETS),
        claims=Claims(tensions=True),
    )  # fmt: skip


def _comparisons(pairs: Sequence[PairEntry], sides: Sequence[str]) -> Iterator[Comparison]:
    def files(corpora: Sequence[str], modes: Sequence[str], probe: bool = True) -> tuple[str, ...]:
        states = [f"{c}+{m}" for c in corpora for m in modes]
        own = [f"{s}.{family}" for s in states for family in ("linear", "neighbours")]
        return (*own, *(f"ag-news+{m}.probe" for m in modes if probe))

    corpora, both, one = list(CORPORA), ("bidirectional", "causal"), ("bidirectional",)
    for p in pairs:
        about: dict[str, Any] = {"pair": p.name, "kind": p.kind}
        yield Comparison(
            left=p.left, right=p.right, stage="backbone", **about,
            files=(*files(corpora, both), "weights", f"{corpora[0]}+causal.behaviour"),
        )  # fmt: skip
        if not p.embed:
            continue
        about["recipe"] = "full"
        for seed in SEEDS:
            left, right = (str(EmbedderId(n, "full", seed)) for n in (p.left, p.right))
            own = (*files(corpora, one), "weights", "survival")
            yield Comparison(left=left, right=right, stage="embedder", files=own, **about)
        for step in STEPS:
            left, right = (str(EmbedderId(n, "full", SEEDS[0], step)) for n in (p.left, p.right))
            yield Comparison(
                left=left, right=right, stage="checkpoint", files=files(corpora[:1], one), **about
            )
    for name in sides:
        left, right = (str(EmbedderId(name, "full", seed)) for seed in SEEDS[:2])
        yield Comparison(
            left=left, right=right, stage="embedder", pair=f"{name}-seeds", kind="control", recipe="full",
            files=(*files(corpora[:1], one, probe=False), "weights"),
        )  # fmt: skip
    for name in dict.fromkeys(p.left for p in pairs):
        for floor in ("shuffled", "rotated"):
            yield Comparison(
                left=name, right=floor, stage="backbone", pair=f"{name}-{floor}", kind="control",
                files=files(corpora[:1], one, probe=False),
            )  # fmt: skip


def _along(pairs: Sequence[PairEntry]) -> Iterator[Comparison]:
    files = tuple(f"{next(iter(CORPORA))}+bidirectional.{family}" for family in ("linear", "neighbours"))
    for p in pairs:
        yield Comparison(
            left=p.left, right=p.right, stage="backbone", pair=p.name, kind=p.kind, files=(*files, "weights")
        )


if __name__ == "__main__":
    fill(paper_shaped(), Path(sys.argv[1]))
