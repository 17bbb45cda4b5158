"""The check that trainings which are compared saw the same batches in the same order."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from realign.artifacts.command import Job, UserError
from realign.study.recipe import BatchOrders

Trained = tuple[str, int]  # recipe and seed


def run(job: Job[BatchOrders]) -> None:
    """Write each recipe's and seed's batch order, or stop where backbones differ in it."""
    orders = collect(job.inputs_of("trainings"))
    if problems := [
        line for trained, found in sorted(orders.items()) if (line := difference(trained, found))
    ]:
        raise UserError(
            "\n".join(["backbones that are compared were trained on different batches:", *problems])
        )
    report = [
        {
            "recipe": recipe,
            "seed": seed,
            "batch_order": next(iter(found.values())),
            "backbones": sorted(found),
        }
        for (recipe, seed), found in sorted(orders.items())
    ]
    job.output("report").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def collect(paths: Iterable[Path]) -> dict[Trained, dict[str, str]]:
    """By recipe and seed, the batch order of each backbone, from tidy tables."""
    import pyarrow.parquet as pq

    orders: dict[Trained, dict[str, str]] = defaultdict(dict)
    for path in paths:
        columns = ["backbone", "recipe", "seed", "metric", "value"]
        rows = pq.read_table(path, columns=columns, filters=[("metric", "==", "batch_order")]).to_pylist()
        if len(rows) != 1:
            raise UserError(f"{path} tells {len(rows)} batch orders where one is expected")
        row = rows[0]
        orders[row["recipe"], row["seed"]][row["backbone"]] = f"{int(row['value']):012x}"
    return dict(orders)


def difference(trained: Trained, found: dict[str, str]) -> str | None:
    """What to say of one recipe and seed whose backbones differ, or nothing."""
    if len(set(found.values())) <= 1:
        return None
    told = ", ".join(f"{backbone} {order}" for backbone, order in sorted(found.items()))
    return f"  recipe {trained[0]}, seed {trained[1]}: {told}"
