"""Fetching a dataset of a hub, once, at its pinned revision, into one Parquet file.

The real `datasets` library does it: its cache, its tokens, its mirrors and its offline switches are
all honoured, and what cannot be fetched is said in the user's words.
"""

import logging
import re
from typing import Any

from realign.artifacts.command import Job, UserError
from realign.study.data import FetchJob, HubSource

_COMMIT = re.compile(r"[0-9a-f]{40}")

log = logging.getLogger(__name__)


def run(job: Job[FetchJob]) -> None:
    """Fetch the dataset and write the split that was asked for."""
    source = job.settings.hub
    table, commit = load(source)
    table.to_parquet(str(job.output("table")))
    job.note(
        origin=f"hub dataset {source.id}",
        revision=source.revision,
        resolved=commit,
        rows=table.num_rows,
        licence=table.info.license or "not stated",
    )


def load(source: HubSource) -> tuple[Any, str]:
    """The split of a hub dataset and the commit it was read at; loading scripts are never run."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    where = f"{source.id} at {source.revision}"
    try:
        builder = datasets.load_dataset_builder(source.id, source.config, revision=source.revision)
        check_commit(source, builder.hash)
        builder.download_and_prepare()
        return builder.as_dataset(split=source.split), builder.hash
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


def check_commit(source: HubSource, found: str) -> None:
    """Refuse another commit than the one asked for: without a network the library takes what it has."""
    if _COMMIT.fullmatch(source.revision):
        if found != source.revision:
            raise UserError(
                f"{source.id} at {source.revision}: only {found} is in the cache, and the hub cannot be "
                "asked; run the rule fetch_dataset where there is a network"
            )
    else:
        log.warning("%s: '%s' may move; today it is %s", source.id, source.revision, found)
