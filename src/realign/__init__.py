"""Realign: what post-training did to a model, and whether it makes better embeddings."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """The public comparison of two models, loaded when it is first asked for."""
    if name == "compare":
        return import_module(f"{__name__}.tools.compared").compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
