"""Tidy results as the drawings read them: long tables, one row a number, picked by what they say.

Nothing here knows a model or a state; an archive of Parquet files is enough.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from realign.artifacts.command import UserError
from realign.measures.table import MEASURES
from realign.results.columns import COLUMNS, LATER, NUMBERS, PUBLISHED, WITHOUT_SINKS


def _schema(kind: str) -> pa.Schema:
    return pa.schema([(c, pa.float64() if c in NUMBERS else pa.string()) for c in COLUMNS[kind]])


def read_table(kind: str, paths: Iterable[Path]) -> pd.DataFrame:
    """All rows of the files of one kind, in the files' order."""
    tables = []
    for path in paths:
        table = pq.read_table(path)
        if kind == "measures":
            for column in sorted(LATER - set(table.column_names)):
                table = table.append_column(column, pa.nulls(len(table), _schema(kind).field(column).type))
        missing = [c for c in COLUMNS[kind] if c not in table.column_names]
        if missing:
            raise UserError(f"{path}: no column '{missing[0]}'; tidy {kind} need {', '.join(COLUMNS[kind])}")
        table = table.select(COLUMNS[kind])
        if "tags" in table.column_names:
            table = table.drop(["tags"])  # a list or a text, by taste; the description says it anyway
        tables.append(_cast(table, kind, path).append_column("file", _repeated(path, len(table))))
    if not tables:
        return pd.DataFrame(columns=[*COLUMNS[kind], "file"])
    return pa.concat_tables(tables).to_pandas()


def _repeated(path: Path, count: int) -> pa.DictionaryArray:
    """Which file a row is from, below `tidy`: evidence that a verdict can name."""
    name = path.as_posix().rsplit("/tidy/", 1)[-1]
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([name]))


def _cast(table: pa.Table, kind: str, path: Path) -> pa.Table:
    """The same types whatever a writer chose: a column without any value has no type of its own."""
    wanted = _schema(kind)
    fields = [wanted.field(name) for name in table.column_names]
    columns = []
    for field, column in zip(fields, table.columns, strict=True):
        empty = column.null_count == len(column) or (
            pa.types.is_floating(column.type) and pc.all(pc.is_nan(column)).as_py()
        )
        try:
            columns.append(pa.nulls(len(column), field.type) if empty else column.cast(field.type))
        except pa.ArrowInvalid as error:
            raise UserError(f"{path}: column '{field.name}' is not {field.type} ({error})") from None
    return pa.table(columns, schema=pa.schema(fields))


def kind_of(path: Path) -> str:
    """Which tidy table a file belongs to: the folder below `tidy`."""
    parts = path.parts
    below = parts[len(parts) - 1 - parts[::-1].index("tidy") + 1] if "tidy" in parts else ""
    kind = below.removesuffix(".parquet")
    if kind not in COLUMNS:
        raise UserError(f"{path}: lies in no folder of tidy results ({', '.join(COLUMNS)})")
    return kind


class Tidy:
    """The tidy results of a set of files, each kind read when it is first asked for."""

    def __init__(self, paths: Sequence[Path]):
        self._paths: dict[str, list[Path]] = {kind: [] for kind in COLUMNS}
        for path in paths:
            self._paths[kind_of(path)].append(path)

    def files(self, kind: str) -> list[Path]:
        """The files of one kind."""
        return self._paths[kind]

    @cached_property
    def measures(self) -> pd.DataFrame:
        """Every measure of every comparison."""
        return read_table("measures", self._paths["measures"])

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Every score of every embedder."""
        return read_table("scores", self._paths["scores"])

    @cached_property
    def queries(self) -> pd.DataFrame:
        """The scores of single queries of every embedder."""
        return read_table("queries", self._paths["queries"])

    @cached_property
    def backbones(self) -> pd.DataFrame:
        """What is known of the backbones."""
        return read_table("backbones", self._paths["backbones"])

    @cached_property
    def training(self) -> pd.DataFrame:
        """What was logged in training."""
        return read_table("training", self._paths["training"])

    @cached_property
    def mining(self) -> pd.DataFrame:
        """What mining counted."""
        return read_table("mining", self._paths["mining"])

    @cached_property
    def audits(self) -> pd.DataFrame:
        """How often mined negatives answer their query."""
        return read_table("audits", self._paths["audits"])


def pick(frame: pd.DataFrame, **equal: Any) -> pd.DataFrame:
    """The rows whose columns have these values; a tuple or a list stands for any of its values."""
    keep = np.ones(len(frame), dtype=bool)
    for column, wanted in equal.items():
        if isinstance(wanted, tuple | list):
            keep &= frame[column].isin(wanted).to_numpy()
        else:
            keep &= (frame[column] == wanted).to_numpy()
    return frame[keep]


def of_preset(frame: pd.DataFrame, preset: str) -> pd.DataFrame:
    """The rows of a preset; with none named, the study's own rather than the published one."""
    if preset:
        return pick(frame, preset=preset)
    own = frame[frame["preset"].fillna("") == ""]
    return own if len(own) else frame


def without_sinks(measures: pd.DataFrame) -> pd.DataFrame:
    """The study's own rows; where a comparison was also measured without attention sinks, those rows.

    `with_sinks` holds the number that they replace, and is missing in all other rows.
    """
    about = ["study", "stage", "step", "recipe", "pair", "corpus", "attention", "seed_left", "seed_right"]
    keys = [*about, "measure", "statistic", "part", "layer_left", "layer_right"]
    own = of_preset(measures, "")
    free = pick(measures, preset=WITHOUT_SINKS).drop(columns="preset").assign(preset="")
    # Published means stay where nothing takes their place: they are what counts layer 0.
    own = pd.concat([own, pick(measures, preset=PUBLISHED)]) if set(own["preset"]) <= {""} else own
    own, free = (frame.assign(key=_keys(frame[keys])) for frame in (own, free))
    replaced = own["key"].isin(free["key"])
    own_values = own.loc[own["preset"] != PUBLISHED, ["key", "value"]]
    free = free.merge(own_values.rename(columns={"value": "with_sinks"}), on="key", how="left")
    return pd.concat([own[~replaced].assign(with_sinks=np.nan), free], ignore_index=True).drop(columns="key")


def _keys(frame: pd.DataFrame) -> pd.Series:
    """One number for each distinct row; what is missing in both is equal."""
    return pd.util.hash_pandas_object(frame.astype(object).where(frame.notna(), ""), index=False)


def readings(frame: pd.DataFrame, measure: str, preset: str = "", **equal: Any) -> pd.DataFrame:
    """The rows that hold a measure's number (its interval beside it), of whole models and layers."""
    whole = frame[frame["part"].fillna("") == ""] if "part" in frame else frame
    return of_preset(pick(whole, measure=measure, statistic=MEASURES[measure].statistic, **equal), preset)


def over_seeds(frame: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Value and interval by key, averaged over seeds."""
    grouped = frame.groupby(list(keys), sort=False, dropna=False)[["value", "ci_low", "ci_high"]]
    return grouped.mean().reset_index()


def matrix(frame: pd.DataFrame) -> np.ndarray:
    """Values by (left layer, right layer), averaged over seeds; NaN where nothing was measured."""
    if frame.empty:
        return np.full((0, 0), np.nan)
    rows, columns = frame["layer_left"].astype(int), frame["layer_right"].astype(int)
    shape = (rows.max() + 1, columns.max() + 1)
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, (rows, columns), frame["value"].to_numpy(float))
    np.add.at(count, (rows, columns), 1.0)
    return np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)


def counterparts(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that compare a layer with its own counterpart; of unequal depths, the last ones."""
    deepest = frame.groupby("pair")[["layer_left", "layer_right"]].transform("max")
    alike = deepest["layer_left"] == deepest["layer_right"]
    last = (frame[["layer_left", "layer_right"]] == deepest).all(axis=1)
    return frame[last | (alike & (frame["layer_left"] == frame["layer_right"]))]


def by_layer(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that compare a layer with its own counterpart, averaged over seeds, in order."""
    return (
        over_seeds(counterparts(frame), "layer_left")
        .sort_values("layer_left")
        .rename(columns={"layer_left": "layer"})
    )


def mean_over_layers(frame: pd.DataFrame, first: int = 1) -> dict[str, float]:
    """The mean over layers of value and interval, from layer `first` on.

    The interval is the mean of the layers' intervals: as wide as if their errors moved together,
    which is never too narrow.
    """
    layers = by_layer(frame)
    layers = layers[layers["layer"] >= first]
    return {c: float(layers[c].mean()) if len(layers) else np.nan for c in ("value", "ci_low", "ci_high")}


def final_layer(frame: pd.DataFrame) -> dict[str, float]:
    """The value and the interval of the last layer, averaged over seeds."""
    layers = by_layer(frame)
    if layers.empty:
        return dict.fromkeys(("value", "ci_low", "ci_high"), np.nan)
    last = layers.iloc[-1]
    return {c: float(last[c]) for c in ("value", "ci_low", "ci_high")}


def summary(frame: pd.DataFrame, measure: str, preset: str = "", first: int = 1) -> dict[str, float]:
    """One number of a comparison: the final layer's or the mean over layers, as the measure declares.

    Means that the results hold, with intervals of their own, are preferred to means made here.
    """
    if MEASURES[measure].layers == "final":
        return final_layer(readings(frame, measure, preset))
    means = pick(frame, measure=measure, statistic="mean_over_layers")
    means = pick(means, preset=PUBLISHED) if first == 0 else of_preset(means, preset)
    if len(means):
        return {c: float(means[c].mean()) for c in ("value", "ci_low", "ci_high")}
    return mean_over_layers(readings(frame, measure, preset), first)


def task_scores(scores: pd.DataFrame, preset: str = "") -> pd.DataFrame:
    """One score per embedder × benchmark × task, in points of 100: the mean over its subsets.

    mteb's main score is taken where it is recorded; finished embedders only.
    """
    final = scores[scores["step"].isna()] if "step" in scores else scores
    final = of_preset(final, preset)
    main = final[final["metric"] == "main_score"]
    final = main if len(main) else final[final["task"].fillna("") != ""]
    keys = ["backbone", "recipe", "seed", "benchmark", "task", "task_type"]
    means = final.groupby(keys, sort=False, dropna=False)["value"].mean().reset_index()
    means["value"] *= 100
    return means


def usual_k(measures: pd.DataFrame, shown: Sequence[int]) -> int:
    """The neighbourhood size that stands for all: 10 as in the claims, else the first that is there."""
    measured = {int(k) for k in pick(measures, measure="knn_overlap")["k"].dropna()}
    return next((k for k in (10, *shown, *sorted(measured)) if k in measured), 0)


def chance(frame: pd.DataFrame, measure: str) -> float:
    """What chance gives: a random rotation's entropy, where the results say it."""
    rows = pick(frame, measure=measure, statistic="inverse_row_entropy_haar")
    return float(rows["value"].mean()) if len(rows) else np.nan


def mining_wide(mining: pd.DataFrame) -> pd.DataFrame:
    """Data sets by statistics, in the order of the files."""
    wide = mining.pivot_table(index="dataset", columns="statistic", values="value", sort=False)
    return wide.reindex(list(dict.fromkeys(mining["dataset"])))
