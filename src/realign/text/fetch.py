"""Fetching a dataset of a hub, once, at its pinned revision, into one Parquet file.

The real `datasets` library does it: its cache, its tokens, its mirrors and its offline switches are
all honoured, and what cannot be fetched is said in the user's words.
"""

import logging
from typing import Any

from realign.artifacts.command import Job, UserError
from realign.study.data import FetchJob, HubSource

log = logging.getLogger(__name__)


def run(job: Job[FetchJob]) -> None:
    """Fetch the dataset and write the split that was asked for."""
    source = job.settings.hub
    table = load(source)
    table.to_parquet(str(job.output("table")))
    job.note(origin=f"hub dataset {source.id}", revision=source.revision, rows=table.num_rows,
             licence=str(table.info.license or "not stated"))  # fmt: skip


def load(source: HubSource) -> Any:
    """The split of a hub dataset, as the library's own table; loading scripts are never run."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    where = f"{source.id} at {source.revision}"
    try:
        return datasets.load_dataset(source.id, source.config, split=source.split, revision=source.revision)
    except DatasetNotFoundError as error:
        raise UserError(
            f"{where}: {error} (check the id, the revision and, for a gated dataset, HF_TOKEN)"
        ) from None
    except (OfflineModeIsEnabled, ConnectionError) as error:
        raise UserError(
            f"{where}: not in the cache, and the hub is switched off or out of reach ({error}); "
            "run the rule fetch_dataset where there is a network"
        ) from None
    except (HfHubHTTPError, ValueError) as error:
        raise UserError(f"{where}: {error}") from None
