"""Reading the probe's rows: whose vectors it was fitted on and whose it was read from."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from realign.results.controls import random_weights
from realign.results.tidy import of_preset, over_seeds, pick, readings
from realign.study.description import PairEntry
from realign.study.figures import View

SPLITS = ("train", "dev", "test")
# Directions as the measures name them: fitted on the left model, read from left or right.
SIDES = {"left": "base", "right": "post-trained"}
CEILING = 0.99  # where a probe is this right on both models, its labels are too easy to tell them apart
SATURATED = "saturated: tells nothing"


def of_probe_corpus(rows: pd.DataFrame, view: View) -> pd.DataFrame:
    """The rows of the corpus whose labels are shown: the one asked for, else the first that has any."""
    there = list(dict.fromkeys(rows["corpus"]))
    chosen = [view.probe_corpus] if view.probe_corpus else [c for c in view.corpora if c in there] or there
    return rows[rows["corpus"].isin(chosen[:1])]


def with_probe_corpus(view: View, measures: pd.DataFrame) -> View:
    """The view with a corpus whose labels tell models apart: the first on which some pair isn't saturated."""
    chosen = telling_corpora(view, measures)[:1]
    return view.model_copy(update={"probe_corpus": chosen[0]}) if chosen else view


def telling_corpora(view: View, measures: pd.DataFrame) -> list[str]:
    """The corpora whose labels tell models apart, the one that is shown first; all where none does."""
    rows = readings(measures, "probe", view.preset, split="test", attention=view.attention)
    rows = rows[rows["direction"].isin(SIDES) & (rows["kind"] != "control")]
    last = rows.groupby(["corpus", "pair"])["layer_left"].transform("max")
    rows = rows[rows["layer_left"].isna() | (rows["layer_left"] == last)]
    means = over_seeds(rows, "corpus", "pair", "stage", "direction")
    lowest = means.groupby("corpus", sort=False)["value"].min()
    there = sorted(lowest.index, key=lambda corpus: (*view.corpora, corpus).index(corpus))
    telling = [corpus for corpus in there if lowest[corpus] < CEILING] or there
    asked = [view.probe_corpus] if view.probe_corpus else []
    return list(dict.fromkeys([*asked, *telling]))


def untrained_accuracy(
    measures: pd.DataFrame, view: View, pair: PairEntry, untrained: Iterable[str]
) -> pd.DataFrame:
    """Accuracy by split of a probe fitted on random weights of the base's shape and read from them."""
    own = random_weights(measures, pair, untrained)
    rows = readings(own, "probe", view.preset, direction="native", attention=view.attention)
    return over_seeds(_shown(rows, view), "corpus", "split")


def probe_accuracy(measures: pd.DataFrame, view: View, pair: str, stage: str) -> pd.DataFrame:
    """Accuracy by split and side of a probe fitted on the base model, averaged over seeds."""
    rows = readings(measures, "probe", view.preset, pair=pair, stage=stage, attention=view.attention)
    rows = _shown(rows[rows["direction"].isin(SIDES)], view)
    rows = rows.assign(side=rows["direction"].map(SIDES))
    return over_seeds(rows, "corpus", "n", "task", "split", "side")


def saturated(bars: pd.DataFrame) -> bool:
    """Whether test accuracy is at its ceiling on both models: from the base's alone it could still fall."""
    tested = bars.loc[bars["split"] == "test", "value"]
    return len(tested) == len(SIDES) and bool((tested >= CEILING).all())


def probed(bars: pd.DataFrame, facts: Mapping[str, Any]) -> list[str]:
    """Each probed corpus in a sentence: what its labels say, and how many of its texts are for testing."""
    told = []
    for corpus, texts in bars.groupby("corpus", sort=False)["n"].max().items():
        about, probe = facts.get("corpora", {}).get(corpus, {}), facts.get("probe", {})
        name, by = about.get("label") or corpus, about.get("labelled_by")
        told.append(f"Probed: {name}, {texts:.0f} texts" + (f" labelled by {by}" if by else ""))
        if probe:
            told[-1] += f"; about {probe['test'] * texts:.0f} are for testing (splits: {probe['seeds']})"
    return [f"{sentence}." for sentence in told]


def readout_gap(measures: pd.DataFrame, view: View, pair: str, stage: str) -> pd.DataFrame:
    """Test accuracy of that probe on the post-trained model minus on the base model, at most one row."""
    rows = pick(
        of_preset(measures, view.preset), measure="probe", statistic="accuracy_change", direction="right",
        split="test", pair=pair, stage=stage, attention=view.attention,
    )  # fmt: skip
    return over_seeds(_shown(rows, view), "task")


def _shown(rows: pd.DataFrame, view: View) -> pd.DataFrame:
    """The rows of the shown corpus and task, of the last layer where a probe was fitted on several."""
    rows = of_probe_corpus(rows, view)
    tasks = [view.probe_task] if view.probe_task else list(dict.fromkeys(rows["task"]))[:1]
    rows = rows[rows["task"].isin(tasks)]
    if len(rows):
        rows = rows[rows["layer_left"].isna() | (rows["layer_left"] == rows["layer_left"].max())]
    return rows
