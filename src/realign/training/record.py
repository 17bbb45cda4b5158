"""A training's record as a tidy table: one row a number."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from realign.names import EmbedderId

METRICS = (
    "loss", "val_loss", "val_ndcg_at_10", "tokens", "tokens_per_second", "padding_share", "memory_gb",
    "reserved_gb",    "learning_rate", "gradient_norm", "mean_cosine", "accuracy",
)  # fmt: skip


def write_tidy(path: Path, lines: Iterable[Mapping[str, Any]], study: str, name: EmbedderId) -> None:
    """Write the numbers of a training's log."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(_rows(lines))
    count = len(rows)
    table = pa.table(
        {
            "study": pa.array([study] * count, pa.string()),
            "embedder": pa.array([str(name)] * count, pa.string()),
            "backbone": pa.array([name.backbone] * count, pa.string()),
            "recipe": pa.array([name.recipe] * count, pa.string()),
            "seed": pa.array([name.seed] * count, pa.int64()),
            "step": pa.array([row[0] for row in rows], pa.int64()),
            "metric": pa.array([row[1] for row in rows], pa.string()),
            "value": pa.array([row[2] for row in rows], pa.float64()),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _rows(lines: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, str, float]]:
    for line in lines:
        if "batch_order" in line:  # exact as a number: twelve hexadecimal digits are 48 bits
            yield 0, "batch_order", float(int(line["batch_order"], 16))
        for metric in METRICS:
            if metric in line:
                yield int(line["step"]), metric, float(line[metric])
