"""Made-up tidy results in the shape of the paper's study: 8 pairs, 2 corpora, up to 36 layers.

They exist to try every drawing before any model is trained, and to test verdicts where the truth is
known. Nothing in them was measured, and every page drawn from them says so. Run
`python -m realign.paper.synthetic DIR`, then `realign figures --results DIR`.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from realign.paper.statistics import random_rotation_entropy
from realign.paper.tidy import COLUMNS
from realign.seeds import derive_seed
from realign.study.claims import Claims
from realign.study.description import Compared, Description, PairEntry
from realign.study.names import EmbedderId

STUDY = "synthetic"
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
# name: (label, layers, width, parameters)
BACKBONES = {
    "Qwen2.5-Math-1.5B": ("Qwen2.5-Math-1.5B", 28, 1536, 1.5e9),
    "DS-1.5B": ("DeepSeek-R1-Distill-Qwen-1.5B", 28, 1536, 1.5e9),
    "Qwen3-4B": ("Qwen3-4B", 36, 2560, 4.0e9),
    "Polaris-4B": ("Polaris-4B-Preview", 36, 2560, 4.0e9),
    "DS-7B": ("DeepSeek-R1-Distill-Qwen-7B", 28, 3584, 7.6e9),
    "Polaris-7B": ("Polaris-7B-Preview", 28, 3584, 7.6e9),
    "Qwen2.5-7B": ("Qwen2.5-7B", 28, 3584, 7.6e9),
    "zero-ppo-7B": ("zero-ppo-think-Qwen2.5-7B", 28, 3584, 7.6e9),
    "Qwen2.5-1.5B": ("Qwen2.5-1.5B", 28, 1536, 1.5e9),
    "SimpleRL-1.5B": ("Qwen-2.5-1.5B-SimpleRL-Zoo", 28, 1536, 1.5e9),
    "Qwen2.5-0.5B": ("Qwen2.5-0.5B", 24, 896, 0.5e9),
    "SimpleRL-0.5B": ("Qwen-2.5-0.5B-SimpleRL-Zoo", 24, 896, 0.5e9),
    "ProRL-1.5B": ("Nemotron-Research-Reasoning-Qwen-1.5B", 28, 1536, 1.5e9),
    "PSR-4B": ("Qwen3-4B-PSR", 36, 2560, 4.0e9),
}
# left, right, kind, tags, embed, how much it moved (0 to 1)
PAIRS = (
    ("Qwen2.5-Math-1.5B", "DS-1.5B", "sft", (), True, 0.95),
    ("Qwen3-4B", "Polaris-4B", "rlvr", (), False, 0.45),
    ("DS-7B", "Polaris-7B", "rlvr", (), False, 0.30),
    ("Qwen2.5-7B", "zero-ppo-7B", "rlvr", (), False, 0.30),
    ("Qwen2.5-1.5B", "SimpleRL-1.5B", "rlvr", (), True, 0.12),
    ("Qwen2.5-0.5B", "SimpleRL-0.5B", "rlvr", (), True, 0.05),
    ("DS-1.5B", "ProRL-1.5B", "rlvr", ("prolonged",), True, 0.60),
    ("Qwen3-4B", "PSR-4B", "rlvr", (), True, 0.25),
)
CORPORA = {"reasoning-hard": "Reasoning texts, hard", "mmlu-pro": "MMLU-Pro"}
BENCHMARKS = {"MTEB(Multilingual, v2)": 40, "MTEB(Code, v1)": 12, "BRIGHT": 12}
DATASETS = {"MSMARCO": 4990, "NLI": 2770, "HotpotQA": 1680, "FEVER": 1060, "Mr.TyDi": 1030, "SQuAD": 840}
NEAR = (5, 10, 50)
WIDTHS = {layers: width for _, layers, width, _ in BACKBONES.values()}


class Writer:
    """Writes tidy files and remembers what was compared."""

    def __init__(self, root: Path):
        self.root = root / "tidy"
        self.compared: list[Compared] = []

    def write(self, table: str, path: str, rows: list[dict[str, Any]]) -> None:
        """One Parquet file of a tidy table, with all its columns."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        frame = pd.DataFrame(rows).reindex(columns=COLUMNS[table])
        frame["study"] = STUDY
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), place)


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
        "ci_high": float(value + half), "n": 50_000, **more,
    }  # fmt: skip


def _linear(layers: int, moved: float, noise: np.random.Generator) -> Iterator[dict[str, Any]]:
    for measure, statistic, by, width in (
        ("correlation", "mean", min(1.0, 1.25 * moved), 0.12),
        ("cka", "value", 0.25 * moved**1.5 + 0.45 * max(0.0, moved - 0.7), 0.45),
    ):
        grid = _grid(layers, by, width, noise)
        for (left, right), value in np.ndenumerate(grid):
            half = 0.015 if left == right else np.nan
            yield _row(measure, statistic, value, half, layer_left=left, layer_right=right)
    for layer in range(1, layers + 1):
        entropy = np.clip(1 - moved * (0.8 + 0.25 * layer / layers), 0.1, 1) + 0.004 * noise.standard_normal()
        yield _row("procrustes", "inverse_row_entropy", entropy, 0.01, layer_left=layer, layer_right=layer)
        haar = random_rotation_entropy(WIDTHS[layers])
        yield _row("procrustes", "inverse_row_entropy_haar", haar, layer_left=layer, layer_right=layer)
        yield _row("procrustes", "residual", 0.6 * moved, 0.01, layer_left=layer, layer_right=layer)


def _neighbours(layers: int, moved: float, noise: np.random.Generator) -> Iterator[dict[str, Any]]:
    depth = np.linspace(0, 1, layers + 1)
    for k in NEAR:
        curve = (1 - min(0.93, 1.05 * moved**0.5) * (0.55 + 0.45 * depth)) * (1 + 0.05 * np.log(k / 5))
        curve = np.clip(curve + 0.01 * noise.standard_normal(layers + 1), 0, 1)
        for layer, value in enumerate(curve):
            yield _row("knn_overlap", "mean", value, 0.012, layer_left=layer, layer_right=layer, k=k)


def _probe(layers: int, moved: float, noise: np.random.Generator) -> Iterator[dict[str, Any]]:
    drop = 0.35 * max(0.0, moved - 0.7) / 0.3
    for split, own in (("train", 0.93), ("dev", 0.90), ("test", 0.895)):
        about = {"task": "label", "split": split, "layer_left": layers, "layer_right": layers}
        left = own + 0.004 * noise.standard_normal()
        right = own - drop - 0.02 * moved + 0.004 * noise.standard_normal()
        yield _row("probe", "accuracy", left, 0.01, direction="left", **about)
        yield _row("probe", "accuracy", right, 0.01, direction="right", **about)
        yield _row("probe", "accuracy_change", right - left, 0.01, direction="right", **about)


FAMILIES = {"linear": _linear, "neighbours": _neighbours, "probe": _probe}


def _measures(writer: Writer, left: str, right: str, layers: int, moved: float, **about: Any) -> None:
    kind_corpora = list(CORPORA)[
        : 1 if about["stage"] == "checkpoint" or about["kind"] == "control" else None
    ]
    files: list[str] = []
    modes = ("bidirectional",) if about["stage"] == "checkpoint" else ("bidirectional", "causal")
    for family, make in FAMILIES.items():
        for corpus in kind_corpora if family != "probe" else ["ag-news"]:
            for mode in modes:
                scale = (0.35 if corpus == "mmlu-pro" else 1.0) * (0.95 if mode == "causal" else 1.0)
                noise = _random(left, right, family, corpus, mode)
                common = {**about, "corpus": corpus, "attention": mode, "preset": "", "token_rule": "all"}
                common["tags"] = ",".join(about.get("tags", ()))
                rows = [{**common, **row} for row in make(layers, moved * scale, noise)]
                rows += [{**common, **_row("sample", s, n)} for s, n in (("tokens", 5e4), ("texts", 57))]
                path = f"measures/{left}--vs--{right}/{corpus}+{mode}.{family}.parquet"
                writer.write("measures", path, rows)
                files.append(f"{corpus}+{mode}.{family}")
    facts = {k: about[k] for k in ("stage", "pair", "kind")} | {"recipe": about["recipe"] or ""}
    writer.compared.append(Compared(left=left, right=right, files=tuple(files), **facts))


def _embedded() -> list[str]:
    return list(dict.fromkeys(n for p in PAIRS if p[4] for n in p[:2]))


def _write_measures(writer: Writer) -> None:
    for left, right, kind, tags, embed, moved in PAIRS:
        layers, pair = BACKBONES[left][1], f"{left}--vs--{right}"
        about = {"pair": pair, "kind": kind, "tags": tags, "recipe": None}
        _measures(writer, left, right, layers, moved, stage="backbone", **about)
        if not embed:
            continue
        about["recipe"] = "full"
        healed = 0.55 * moved if kind == "sft" else 0.18 + 0.15 * moved
        for seed in SEEDS:
            sides = [str(EmbedderId(b, "full", seed)) for b in (left, right)]
            _measures(
                writer, *sides, layers, healed, stage="embedder", seed_left=seed, seed_right=seed, **about
            )
        for step in STEPS:
            now = healed + (moved - healed) * np.exp(-step / 80)
            sides = [str(EmbedderId(b, "full", 0, step)) for b in (left, right)]
            _measures(
                writer, *sides, layers, now, stage="checkpoint", step=step, seed_left=0, seed_right=0, **about
            )
    for name in _embedded():
        sides = [str(EmbedderId(name, "full", seed)) for seed in SEEDS[:2]]
        about = {"pair": f"{name}-seeds", "kind": "control", "tags": ("seeds",), "recipe": "full"}
        _measures(
            writer, *sides, BACKBONES[name][1], 0.10, stage="embedder", seed_left=0, seed_right=1, **about
        )


def _write_scores(writer: Writer) -> None:
    for name in _embedded():
        for recipe, lost in (("full", 0.0), ("lora", 0.038)):
            for seed in SEEDS if recipe == "full" else SEEDS[:1]:
                rows = []
                family = name if not name.startswith(("SimpleRL", "ProRL", "PSR")) else name + "-base"
                for benchmark, count in BENCHMARKS.items():
                    for task in range(count):
                        hard = _random("task", benchmark, task).uniform(-0.25, 0.25)
                        level = {"BRIGHT": 0.15}.get(benchmark, 0.52) + 0.4 * hard * (benchmark != "BRIGHT")
                        size = 0.03 * np.log10(BACKBONES[name][3] / 5e8)
                        noise = _random(name, recipe, seed, benchmark, task).normal(0, 0.004)
                        own = _random(name, benchmark, task).normal(0, 0.004)
                        value = level + size + noise + own - lost - 0.02 * (family == "Qwen2.5-Math-1.5B")
                        rows.append(
                            {
                                "embedder": str(EmbedderId(name, recipe, seed)), "backbone": name,
                                "recipe": recipe, "seed": seed, "preset": "", "benchmark": benchmark,
                                "task": f"{benchmark.split('(')[0].lower()}-{task}", "task_type": "Retrieval",
                                "split": "test", "subset": "default", "metric": "main_score",
                                "value": float(np.clip(value, 0, 1)), "mteb_version": "2.26.24",
                            }
                        )  # fmt: skip
                model = str(EmbedderId(name, recipe, seed))
                writer.write("scores", f"scores/{model}.parquet", rows)


def _write_training(writer: Writer) -> None:
    for name in _embedded():
        for recipe in RECIPES:
            for seed in SEEDS if recipe == "full" else SEEDS[:1]:
                noise = _random("training", name, recipe, seed)
                rows = []
                for step in range(1, 783, 6):
                    loss = 0.55 + 1.6 * np.exp(-step / 60) + 0.05 * noise.standard_normal()
                    rows.append({"step": step, "metric": "loss", "value": loss})
                    rows.append(
                        {"step": step, "metric": "tokens_per_second", "value": 8e13 / BACKBONES[name][3]}
                    )
                for step in (0, 100, 200, 400, 600, 782):
                    rows.append(
                        {
                            "step": step,
                            "metric": "val_loss",
                            "value": 0.6 + 1.5 * np.exp(-step / 70) + noise.normal(0, 0.03),
                        }
                    )
                    rows.append(
                        {
                            "step": step,
                            "metric": "val_ndcg_at_10",
                            "value": 0.62 - 0.4 * np.exp(-step / 90) + noise.normal(0, 0.01),
                        }
                    )
                rows.append({"step": 782, "metric": "memory_gb", "value": 12 + BACKBONES[name][3] / 2e8})
                for row in rows:
                    row.update(backbone=name, recipe=recipe, seed=seed)
                model = str(EmbedderId(name, recipe, seed))
                writer.write("training", f"training/{model}.parquet", rows)


def _write_backbones(writer: Writer) -> None:
    bases = {right: (left, kind) for left, right, kind, *_ in PAIRS}
    for name, (_, _, _, parameters) in BACKBONES.items():
        base, kind = bases.get(name, ("", "base"))
        common = {"backbone": name, "kind": kind, "base": base}
        rate = 0.45 + 0.25 * (name in bases)
        rows = [
            {**common, "metric": "parameters", "value": parameters},
            {**common, "metric": "perplexity", "split": "text", "value": 9.0, "ci_low": 8.8, "ci_high": 9.2},
            {
                **common, "metric": "pass_rate", "split": "test", "value": rate, "ci_low": rate - 0.04,
                "ci_high": rate + 0.04, "n": 500,
            },
        ]  # fmt: skip
        writer.write("backbones", f"backbones/{name}.parquet", rows)


def _write_mining(writer: Writer) -> None:
    for name, pairs in DATASETS.items():
        noise = _random("mining", name)
        positive, negative = noise.normal(0.78, 0.06, 4000), noise.normal(0.6, 0.07, 4000)
        counts = {
            "pairs_in": pairs * 1.04, "pairs_out": pairs, "candidates": pairs * 100, "kept": pairs * 3,
            "refused_margin": pairs * 6, "refused_duplicate": pairs * 2, "refused_positive": pairs,
        }  # fmt: skip
        rows = [{"statistic": s, "value": float(v)} for s, v in counts.items()]
        for side, scores in (("positive_score", positive), ("negative_score", negative)):
            for percent in (5, 25, 50, 75, 95):
                rows.append({"statistic": f"{side}_p{percent:02d}", "value": np.percentile(scores, percent)})
        for row in rows:
            row["dataset"] = name
        writer.write("mining", f"mining/{name}.parquet", rows)


def _names(writer: Writer, table: str) -> list[str]:
    return sorted(p.stem for p in (writer.root / table).glob("*.parquet"))


def write_synthetic(root: Path) -> Description:
    """Write made-up tidy results and their `study.json` below `root`."""
    writer = Writer(root)
    for write in (_write_measures, _write_scores, _write_training, _write_backbones, _write_mining):
        write(writer)
    description = Description(
        name=STUDY,
        title="Synthetic results in the shape of the paper's study",
        question="Do the drawings work before anything is measured?",
        synthetic=True,
        seeds=SEEDS,
        backbones={n: {"label": b[0], "source": "made up"} for n, b in BACKBONES.items()},
        pairs=tuple(
            PairEntry(name=f"{p[0]}--vs--{p[1]}", left=p[0], right=p[1], kind=p[2], tags=p[3], embed=p[4])  # type: ignore[arg-type]
            for p in PAIRS
        ),
        recipes=RECIPES,
        corpora={n: {"label": label, "texts": 57} for n, label in CORPORA.items()},
        datasets={n: {} for n in DATASETS},
        benchmarks={b: [f"{b.split('(')[0].lower()}-{i}" for i in range(n)] for b, n in BENCHMARKS.items()},
        compared=tuple(writer.compared),
        scored=tuple(_names(writer, "scores")),
        judged=tuple(BACKBONES),
        trained=tuple(_names(writer, "training")),
        mined=tuple(DATASETS),
        claims=Claims(tensions=True),
    )
    (root / "tidy/study.json").write_text(description.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return description


if __name__ == "__main__":
    write_synthetic(Path(sys.argv[1]))
