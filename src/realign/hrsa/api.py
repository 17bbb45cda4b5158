"""Comparing two models' states from Python: two arrays or two state files in, a tidy DataFrame out."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from realign.artifacts.arguments import checked_settings
from realign.artifacts.command import UserError
from realign.hrsa.alignment import align
from realign.hrsa.labels import Target, as_target
from realign.hrsa.opening import pair_up
from realign.hrsa.reading import Array, ArrayStates, StateFile, States
from realign.measures.families import FAMILIES
from realign.study.hrsa import JOBS, FamilyName, Floor

COMPARABLE = [name for name, family in FAMILIES.items() if family.reads != "models" and not family.heads]


def compare(
    left: str | Path | Array,
    right: str | Path | Array,
    text_index: Sequence[int] | Array | None = None,
    labels: Sequence[Any] | None = None,
    families: Sequence[FamilyName] | FamilyName = ("linear", "neighbours", "extra"),
    floor: Floor | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Compare two models' hidden states over the same tokens.

    `left` and `right` are state files or arrays, (layers, tokens, width) or (tokens, width) for a
    single layer. `text_index` says which text each token of an array is of: intervals are over
    texts; without it each row counts as a text of its own. The family `probe` compares pooled
    states, one row a text, and needs a label for each row; files may hold them. `floor` compares
    the left model with itself made unlike instead. All other settings are those of the families'
    commands: `k`, `groups`, `seed`, `precision`, ….

    The result has one row a number: `measure`, `statistic`, the layers, `value`, and `ci_low` and
    `ci_high` where there is an interval; `attrs["estimands"]` says what each interval is about.
    """
    families = [families] if isinstance(families, str) else list(families)
    _check_settings(families, settings)
    jobs = {family: _job(family, floor, settings) for family in families}
    frames: list[pd.DataFrame] = []
    estimands: dict[str, str] = {}
    with ExitStack() as stack:
        a, b = _states(stack, left, text_index, "left"), _states(stack, right, text_index, "right")
        attributes = a.attributes if isinstance(a, StateFile) else {"level": "token"}
        if labels is None and isinstance(a, StateFile) and "probe" in families:
            labels = a.labels()
        if isinstance(a, StateFile) and isinstance(b, StateFile):
            a, b = align(a, b, settings.get("alignment", "ids"))
        for family, job in jobs.items():
            pair = pair_up(a, b, job, attributes)
            target = [_target(pair, labels, job)] if FAMILIES[family].reads == "pooled" else []
            _measure(family)(pair, *target, job)
            frames.append(pair.rows.table().to_pandas())
            estimands |= pair.rows.estimands
    table = pd.concat(frames, ignore_index=True)
    table.attrs["estimands"] = estimands
    return table


def _states(stack: ExitStack, given: Any, text_index: Any, name: str) -> States:
    if isinstance(given, str | Path):
        return stack.enter_context(StateFile(Path(given)))
    if isinstance(given, list | tuple) and given and hasattr(given[0], "detach"):
        given = np.stack([_array(layer) for layer in given])
    return ArrayStates(_array(given), text_index, name)


def _array(given: Any) -> Array:
    """Values as an array; of a torch tensor, wherever it lies, in its precision as far as numpy has it."""
    if not hasattr(given, "detach"):
        return np.asarray(given)
    given = given.detach().cpu()
    return np.asarray(given.float() if given.element_size() < 4 else given)


def _measure(family: str) -> Callable[..., Any]:
    """The function that measures a family, imported only here: of all families only one needs torch."""
    return import_module(FAMILIES[family].run.split(":")[0]).measure


def _job(family: str, floor: Floor | None, settings: Mapping[str, Any]) -> Any:
    given = {k: v for k, v in settings.items() if k in JOBS[family].model_fields}
    return checked_settings(JOBS[family], {"context": {"floor": floor}, **given})


def _target(pair: Any, labels: Sequence[Any] | None, job: Any) -> Target:
    if labels is None or len(labels) != pair.left.tokens:
        have = "none" if labels is None else str(len(labels))
        raise UserError(f"labels: probes need one for each of {pair.left.tokens} rows, and there are {have}")
    if any(label is None for label in labels):
        raise UserError("labels: some rows have none")
    return as_target([str(label) for label in labels], job.task)


def _check_settings(families: Sequence[str], settings: dict[str, Any]) -> None:
    if not families:
        raise UserError(f"families: none is asked for; there are {', '.join(COMPARABLE)}")
    if unknown := [f for f in families if f not in COMPARABLE]:
        raise UserError(f"families: no family '{unknown[0]}'; there are {', '.join(COMPARABLE)}")
    known = {name for family in families for name in JOBS[family].model_fields} - {"context"}
    if strange := sorted(set(settings) - known):
        there = ", ".join(sorted(known))
        raise UserError(f"no setting '{strange[0]}' in {', '.join(families)}; there are {there}")
