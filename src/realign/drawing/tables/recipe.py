"""The recipe of contrastive training beside the published one."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from realign.drawing.tabulate import Column, Table, publishing
from realign.plates.plate import Needs, Plate
from realign.results.published import read_reference
from realign.results.tidy import Tidy
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "table_5",
        "Hyper-parameters of contrastive training",
        "The recipe of this study beside the published one; (code) marks values that only the published code "
        "has.",
        category="Training",
        needs=(Needs("training", every_recipe=True, required=False),),
        pairs="none",
        references=("recipe",),
        facts=("recipes",),
    ),
)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as (dotted key, value)."""
    for key, value in settings.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if not prefix and key == "lora":
                yield path, "yes"  # where a recipe without them says none
            yield from flatten(value, path + ".")
        else:
            yield path, value


def _show(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_show, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def taken(settings: dict[str, Any], steps: float) -> dict[str, Any]:
    """A recipe with its results: the steps that a training took where no number is set, and the samples."""
    if settings.get("batches.steps") is None and steps == steps:
        settings["batches.steps"] = int(steps)
    if settings.get("batches.steps") and settings.get("batches.size"):
        settings["samples"] = f"{settings['batches.steps'] * settings['batches.size']:,}"
    return settings | {"optimizer": "AdamW", "padding": "right"}


def make(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Table:
    """One row for each setting; the published value where there is one."""
    steps = tidy.training.groupby("recipe")["step"].max()
    recipes: dict[str, dict[str, Any]] = {
        name: taken(dict(flatten(recipe)), float(steps.get(name, np.nan)))
        for name, recipe in asked.facts.get("recipes", {}).items()
    }
    published = read_reference(references, "recipe")
    told = {}
    if published is not None:
        told = {
            k: (r["setting"], r["value"]) for _, r in published.iterrows() for k in str(r["keys"]).split()
        }
    keys = list(dict.fromkeys(k for settings in recipes.values() for k in settings))
    at = {key: place for place, key in enumerate(keys)}
    above = {key: key.partition(".")[0] if key.partition(".")[0] in at else key for key in keys}
    keys.sort(key=lambda k: (above[k] not in told, at[above[k]], at[k]))  # adapters' own beside them
    rows = []
    for key in keys:
        row: dict[str, Any] = {
            "setting": told.get(key, (key, ""))[0],
            "key": key,
            "paper": told.get(key, ("", ""))[1],
        }
        row |= {f"recipe_{name}": _show(settings.get(key)) for name, settings in recipes.items()}
        rows.append(row)
    columns = [Column("setting", "Setting"), Column("key", "Key")]
    columns += [Column(f"recipe_{name}", f"Recipe {name}") for name in recipes]
    return Table([*columns, Column("paper", "Paper")], rows)


run = publishing(make, PLATES)
