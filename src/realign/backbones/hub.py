"""Fetching a model from a hub: only the files that are needed, resumed, and checked to the byte.

The real client does the work, so HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE and the user's token mean
what they mean everywhere. What arrives is compared with the hashes that the hub itself states, and
linked out of the shared cache. Nothing here ever sees the token.
"""

import hashlib
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from realign.artifacts.command import Job, UserError
from realign.artifacts.hashing import files_below, hash_file
from realign.backbones.layout import (
    INDEX,
    check_layout,
    place_file,
    shards_of,
    small_files,
    weight_files,
)
from realign.engine.progress import follow
from realign.study.backbones import FetchHub

log = logging.getLogger(__name__)
T = TypeVar("T")
ATTEMPTS = 4
PAUSE = 1.0  # seconds before the second attempt; doubled each time
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Listing:
    """A repository at one commit: each file's hash as the hub states it (None where it states none)."""

    repo: str
    commit: str
    hashes: dict[str, str | None]
    licence: str | None = None


def run(job: Job[FetchHub]) -> None:
    """Fetch, check and lay out one model."""
    settings = job.settings
    listing = list_repository(settings.repo, settings.revision)
    if not _COMMIT.fullmatch(settings.revision):
        log.warning(
            "%s: revision '%s' can move; pin it with revision: %s",
            settings.repo, settings.revision, listing.commit,
        )  # fmt: skip
    model = job.output("model")
    for name, path in fetch(listing).items():
        place_file(path, model / name)
    job.note(
        origin={"hub": settings.repo, "asked": settings.revision, "revision": listing.commit},
        licence=listing.licence,
        **check_layout(model),
    )


def list_repository(repo: str, revision: str) -> Listing:
    """What a repository holds at a revision; from the local cache when the client is offline."""
    try:
        info = _patiently(
            lambda: HfApi().model_info(repo, revision=revision, files_metadata=True), repo, revision
        )
    except OfflineModeIsEnabled:
        return _cached(repo, revision)
    hashes = {
        file.rfilename: file.lfs.sha256 if file.lfs is not None else file.blob_id
        for file in info.siblings or []
    }
    card = info.card_data
    return Listing(repo, str(info.sha), hashes, str(card.license) if card and card.license else None)


def _cached(repo: str, revision: str) -> Listing:
    """A repository as the cache holds it; blobs there are named by their hashes."""
    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise UserError(
            f"{repo}@{revision} is not in the local cache, and HF_HUB_OFFLINE is set; "
            "fetch it once on a machine with a network"
        ) from None
    names = files_below(folder)
    return Listing(repo, folder.name, {name: (folder / name).resolve().name for name in names})


def fetch(listing: Listing) -> dict[str, Path]:
    """The needed files of a repository by name, in the local cache, each checked against its hash."""
    where = f"{listing.repo}@{listing.commit[:12]}"
    wanted = [*small_files(listing.hashes), *weight_files(listing.hashes, where)]
    paths = {
        name: _fetch_file(listing, name) for name in follow(wanted, f"fetch {listing.repo}", unit="files")
    }
    if INDEX in paths:
        for shard in follow(shards_of(paths[INDEX]), f"fetch {listing.repo}", unit="shards"):
            if shard not in listing.hashes:
                raise UserError(f"{where}: its index names {shard}, which the repository does not hold")
            paths[shard] = _fetch_file(listing, shard)
    return paths


def _fetch_file(listing: Listing, name: str) -> Path:
    """One file; a cached copy that is not what the hub says is fetched afresh, once."""
    for afresh in (False, True):
        path = Path(
            _patiently(
                lambda again=afresh: hf_hub_download(  # type: ignore[misc]
                    listing.repo, name, revision=listing.commit, force_download=again
                ),
                listing.repo,
                listing.commit,
            )
        )
        stated = listing.hashes[name]
        if stated is None:
            log.warning("%s: the hub states no hash of %s; taken unchecked", listing.repo, name)
            return path
        if stated == _hash_like(stated, path):
            return path
        log.warning("%s: %s is not what the hub says it is", listing.repo, name)
    path.resolve().unlink(missing_ok=True)  # nobody else should find it in the cache
    raise UserError(
        f"{listing.repo}: {name} does not have the hash that the hub states ({stated}), fetched twice; it is "
        "damaged on the way, or the server is not the hub it claims to be (HF_ENDPOINT)"
    )


def _hash_like(stated: str, path: Path) -> str:
    """A file's hash of the kind that was stated: SHA-256 of large files, git's own of small ones."""
    if len(stated) == 64:
        return hash_file(path)
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _patiently(ask: Callable[[], T], repo: str, revision: str) -> T:
    """Ask the hub, again after a pause when the network or the server fails; else a clear error."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return ask()
        except OfflineModeIsEnabled:
            raise
        except Exception as error:
            if (reason := _mendable(error, repo, revision)) is not None:
                raise UserError(reason) from None
            if not _passing(error):
                raise
            if attempt == ATTEMPTS:
                raise UserError(
                    f"{repo}: the hub could not be reached ({type(error).__name__}); what has arrived is "
                    "kept, so run it again, on a machine with a network"
                ) from None
            log.warning("%s: %s; trying again", repo, type(error).__name__)
            time.sleep(2.0 ** (attempt - 1) * PAUSE)
    raise AssertionError("unreachable")


def _mendable(error: Exception, repo: str, revision: str) -> str | None:
    """What the user can do about an error of the hub's, if it is of that kind."""
    if isinstance(error, GatedRepoError):
        return (
            f"{repo} is gated: accept its terms on its page, then log in with `hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{repo} has no revision '{revision}'"
    if isinstance(error, RemoteEntryNotFoundError):
        return f"{repo}@{revision}: the hub lists a file that it does not have; try again later"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"the hub has no model '{repo}', or it is private: check the id, or log in with `hf auth login`"
        )
    if isinstance(error, HFValidationError):
        return f"'{repo}' cannot be a model's id on a hub"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status in (401, 403):
        return f"{repo}: the hub refuses the token or wants one ({status}); log in with `hf auth login`"
    return None


def _passing(error: Exception) -> bool:
    """Whether an error may be gone in a moment: the connection, a time limit, a busy server."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return True
    of_client = type(error).__module__.split(".")[0].startswith("httpx")
    return of_client or isinstance(error, ConnectionError | TimeoutError | LocalEntryNotFoundError)
