"""From two files of states to two sides that can be compared: aligned, sampled, or made unlike."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from realign.artifacts.command import UserError
from realign.hrsa.alignment import align
from realign.hrsa.groups import Groups
from realign.hrsa.reading import Picked, Rotated, StateFile, States, shuffled
from realign.hrsa.rows import Rows
from realign.seeds import derive_seed
from realign.study.hrsa import Comparing, ComparingModels

FEWEST_TOKENS = 4  # of fewer, no debiased similarity is known


@dataclass(frozen=True)
class Opened:
    """Two models' states over the same tokens, and where their numbers go."""

    left: States
    right: States
    groups: Groups
    rows: Rows


@contextmanager
def open_pair(left: Path, right: Path, settings: Comparing) -> Iterator[Opened]:
    """Open two files of states and check that they stand for the same tokens."""
    with StateFile(left) as a, StateFile(right) as b:
        yield pair_up(*align(a, b, settings.alignment), settings, a.attributes)


def pair_up(left: States, right: States, settings: ComparingModels, attributes: dict[str, Any]) -> Opened:
    """Two sides with a sample of tokens taken, if the settings ask for one, and the floor made."""
    check_sample(left, right)
    dealing = derive_seed(settings.seed, "hrsa", "groups")
    groups = Groups(left.text_index, settings.groups, dealing)
    most = getattr(settings, "max_tokens", None)
    if most is not None and most < left.tokens:
        chosen = sample_tokens(groups, most, derive_seed(settings.seed, "hrsa", "tokens"))
        left, right = Picked(left, chosen), Picked(right, chosen)
        groups = Groups(left.text_index, settings.groups, dealing)
    seed = derive_seed(settings.seed, "hrsa", "floor", settings.context.floor)
    if settings.context.floor in ("shuffled", "shuffled_in_texts"):
        right = shuffled(left, seed, in_texts=settings.context.floor == "shuffled_in_texts")
    elif settings.context.floor == "rotated":
        right = Rotated(left, seed)
    rows = Rows(settings.context, attributes, groups, settings.confidence)
    rows.add_sample()
    return Opened(left, right, groups, rows)


def sample_tokens(groups: Groups, most: int, seed: int) -> np.ndarray:
    """`most` tokens, each as likely as any other, in their order."""
    return np.sort(np.random.default_rng(seed).choice(groups.tokens, most, replace=False))


def check_sample(left: States, right: States) -> None:
    """Refuse samples that nothing can be measured on."""
    if left.tokens != right.tokens:
        raise UserError(
            f"{left.name} and {right.name} hold {left.tokens} and {right.tokens} tokens; "
            "the same tokens must stand in both"
        )
    if left.tokens < FEWEST_TOKENS:
        raise UserError(f"{left.name}: {left.tokens} tokens are too few; at least {FEWEST_TOKENS} are needed")
