"""One of several processes that share the shards of an extraction, each on its own GPU."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from realign.engine.launch import notice_path
from realign.engine.signals import Leaving
from realign.engine.worker import work
from realign.states.extract import make_shards
from realign.states.plan import Plan
from realign.study.states import Extract


def main(spec: Mapping[str, Any], path: Path) -> None:
    """Make this process's shards."""
    scratch = Path(spec["scratch"])
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    settings = Extract.model_validate(spec["settings"])
    with Leaving(notice_path(path)) as leaving:
        make_shards(
            Path(spec["model"]), settings, Plan.load(scratch / "plan.npz"), scratch, rank, size, leaving
        )


if __name__ == "__main__":
    work(main)
