"""Where a fetched dataset lies: each pinned revision in a cache of its own.

With the hub switched off, `datasets` takes the latest revision that its cache holds, whichever one
was asked for. In a cache that holds one revision only it cannot take another.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from realign.artifacts.hashing import hash_json


@contextlib.contextmanager
def dataset_cache(task: Any) -> Iterator[Path]:
    """Load datasets from, and into, the cache of a task's dataset at its pinned revision."""
    from datasets import config

    pinned = task.metadata.dataset
    whole = config.HF_DATASETS_CACHE
    own = Path(whole) / f"pinned-{hash_json([pinned.get('path'), pinned.get('revision')])[:16]}"
    config.HF_DATASETS_CACHE = own
    try:
        yield own
    finally:
        config.HF_DATASETS_CACHE = whole
