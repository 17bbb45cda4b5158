"""Logging as every command does it: lines with a time on stderr, and one file a job."""

import logging
import sys
from pathlib import Path

FORMAT = "%(asctime)s %(levelname).1s %(name)s: %(message)s"


def start_logging(file: Path | None = None, quiet: bool = False) -> None:
    """Send the package's log to stderr and, if asked, whole to a file."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setLevel(logging.WARNING if quiet else logging.INFO)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, mode="a", encoding="utf-8"))
    logging.basicConfig(
        format=FORMAT, datefmt="%H:%M:%S", level=logging.WARNING, handlers=handlers, force=True
    )
    logging.getLogger("realign").setLevel(logging.INFO)
