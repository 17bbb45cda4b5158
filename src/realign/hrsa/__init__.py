"""Similarity analysis of two models' hidden states: `from realign.hrsa import compare`."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """The public comparison, loaded when it is first asked for: the commands of this room need none of it."""
    if name == "compare":
        return import_module(f"{__name__}.api").compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
