"""The behaviour family: what two models expect to come next in the same texts, from their stored states.

The final states and both heads give each model's distribution over the next token; no model runs again.
States of earlier layers are read through the final norm and the head (the logit lens), and final states of
one model through the other's head (stitching).
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import realign.measures.behaviour  # noqa: F401 (declares what its rows hold)
from realign.artifacts.command import Job, UserError
from realign.embedder.model import load_tokenizer
from realign.engine.progress import follow
from realign.hrsa.alignment import OtherTokenizer, align
from realign.hrsa.groups import Groups
from realign.hrsa.heads import Head, NoHead, Readout
from realign.hrsa.next_tokens import following, shared_tokens
from realign.hrsa.opening import Opened, pair_up
from realign.hrsa.reading import Array, StateFile, States, runs
from realign.hrsa.rows import Rows
from realign.hrsa.stitching import FOLDS, Map, Moments, fitted
from realign.hrsa.tokenwise import Numbers, add_summaries, divergence, means_without_each, token_numbers
from realign.seeds import derive_seed
from realign.study.hrsa import BehaviourJob

log = logging.getLogger(__name__)
READ = 4096  # states that are read at a time
LOGITS = 1 << 24  # logits of one model that are held at a time
ROUNDING = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}  # by which a value is off at most


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that are compared, and each row's next token among them (-1: none)."""

    shared: Array
    following: Array
    positions: Array


def run(job: Job[BehaviourJob]) -> None:
    """The command: two files of causal states, and both models' heads, to rows.

    A pair of which nothing can be said gets rows without numbers, so that a study of several pairs goes on.
    """
    folders = [job.input("left_model"), job.input("right_model")]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with StateFile(job.near("left")) as left, StateFile(job.near("right")) as right:
        check_states(left)
        try:
            sides = align(left, right, "ids")
            heads = [Head(folder, device) for folder in folders]
            tokenizers = [load_tokenizer(folder) for folder in folders]
            shared = shared_tokens(tokenizers[0], tokenizers[1], min(head.vocabulary for head in heads))
            if not len(shared):
                raise OtherTokenizer(
                    f"{folders[0]} and {folders[1]} have no token of one name and id in common"
                )
        except (NoHead, OtherTokenizer) as why:
            log.warning("behaviour is not measured: %s", why)
            groups = Groups(left.text_index, job.settings.groups)
            empty = Rows(job.settings.context, left.attributes, groups, job.settings.confidence)
            empty.write(job.output("measures"))
            return
        ids = following(left, job.input("corpus"), tokenizers[0])
        places = np.full(max(ids.max(), shared.max()) + 2, -1)  # the last one for what follows no token
        places[shared] = np.arange(len(shared))
        told = Vocabulary(shared, places[ids], np.asarray(left.position))
        pair = pair_up(*sides, job.settings, left.attributes)
        rounding = max(ROUNDING.get(str(left.attributes.get(name)), 0.0) for name in ("compute", "storage"))
        measure(pair, (heads[0], heads[1]), told, job.settings, device, rounding)
        pair.rows.write(job.output("measures"))


def check_states(file: StateFile) -> None:
    """Refuse states that no head can read as the model itself would."""
    if file.level != "token":
        raise UserError(f"{file.path} holds pooled states; behaviour is read from the states of tokens")
    if file.attributes.get("attention") != "causal":
        raise UserError(
            f"{file.path} was extracted with {file.attributes.get('attention')} attention; a model says what "
            "comes next with causal attention alone"
        )


def measure(
    pair: Opened,
    heads: tuple[Readout, Readout],
    told: Vocabulary,
    settings: BehaviourJob,
    device: torch.device | None = None,
    rounding: float = 0.0,
) -> None:
    """All that is measured of a pair, added to its rows."""
    reader = Reader(pair, heads, told, device or torch.device("cpu"))
    numbers = reader.tokens()
    reader.add_left_out(numbers)
    add_summaries(pair.rows, numbers, told.positions, settings.positions, settings.entropy_bins)
    random = np.random.default_rng(derive_seed(settings.seed, "hrsa", "behaviour"))
    chosen = np.sort(random.permutation(pair.left.tokens)[: settings.sample])
    add_rounding(reader, chosen, rounding, random)
    add_lenses(reader, chosen)
    add_stitching(reader, chosen, settings.ridge, random)


class Reader:
    """Both models' states as log-probabilities of the shared tokens, in blocks."""

    def __init__(self, pair: Opened, heads: tuple[Readout, Readout], told: Vocabulary, device: torch.device):
        self.pair, self.heads, self.told, self.device = pair, heads, told, device
        self.shared = torch.as_tensor(told.shared, device=device)
        self.block = max(1, LOGITS // max(head.vocabulary for head in heads))
        self.sides: tuple[States, States] = (pair.left, pair.right)

    def states(self, side: int, layer: int, rows: Array) -> Tensor:
        """Some rows of one model's layer."""
        states = self.sides[side]
        values = states.read(layer, runs(rows))
        if not np.isfinite(values).all():
            raise UserError(f"{states.name}: layer {layer} holds values that are not finite")
        return torch.as_tensor(np.asarray(values, np.float32), device=self.device)

    def logs(self, side: int, states: Tensor) -> Tensor:
        """Log-probabilities of the shared tokens that one model's head gives to final states."""
        return self._logs(side, states)[0]

    def _logs(self, side: int, states: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the log of the probability that all of them have together."""
        every = self.heads[side].logits(states).log_softmax(-1)
        known = every if len(self.shared) == every.shape[1] else every[:, self.shared]
        together = known.logsumexp(-1)
        return known - together[:, None], together

    def blocks(self, rows: Array) -> Iterator[Array]:
        """Rows in blocks whose logits are held at once."""
        return iter(np.array_split(rows, -(-len(rows) // self.block)))

    def tokens(self) -> Numbers:
        """Every number of every token, from final states."""
        found: dict[str, list[Array]] = {}
        last = [side.layers - 1 for side in self.sides]
        total = self.pair.left.tokens
        for start in follow(range(0, total, READ), "next tokens", unit="blocks"):
            rows = np.arange(start, min(start + READ, total))
            held = [self.states(side, last[side], rows) for side in (0, 1)]
            for part in self.blocks(rows - start):
                (lp, here), (lq, there) = (
                    self._logs(side, held[side][part[0] : part[-1] + 1]) for side in (0, 1)
                )
                follows = torch.as_tensor(self.told.following[part + start], device=self.device)
                numbers = token_numbers(lp, lq, follows)
                outside = {"outside_left": 1 - here.exp(), "outside_right": 1 - there.exp()}
                for name, values in (numbers | outside).items():
                    found.setdefault(name, []).append(values.double().cpu().numpy())
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def add_left_out(self, numbers: Numbers) -> None:
        """How many tokens are compared, and how probable either model finds all others."""
        rows, known = self.pair.rows, len(self.shared)
        rows.add("token_kl", "shared_tokens", float(known))
        for side, head in zip(("left", "right"), self.heads, strict=True):
            share = max(0.0, float(numbers.pop(f"outside_{side}").mean()))
            rows.add("token_kl", f"outside_{side}", share)
            if known < head.vocabulary:
                log.warning(
                    "%d of the %d rows of the %s model's head stand for tokens that both models have: these "
                    "are compared, and all others have a probability of %.2g",
                    known, head.vocabulary, side, share,
                )  # fmt: skip


def add_rounding(reader: Reader, chosen: Array, rounding: float, random: np.random.Generator) -> None:
    """The KL that the precision of the left states alone adds: KL(p‖p̃), p̃ from states off by rounding."""
    total, layer = 0.0, reader.sides[0].layers - 1
    for rows in reader.blocks(chosen):
        states = reader.states(0, layer, rows)
        off = torch.as_tensor(random.uniform(-rounding, rounding, states.shape), device=reader.device)
        total += float(
            divergence(reader.logs(0, states), reader.logs(0, states + states * off.float())).sum()
        )
    reader.pair.rows.add("token_kl", "rounding", total / len(chosen))


def add_lenses(reader: Reader, chosen: Array) -> None:
    """Each layer read through the final norm and the head: between the models, and to each one's own end."""
    left, right = reader.sides
    if left.layers != right.layers:
        log.warning(
            "%d and %d layers: no logit lens, since layers do not correspond", left.layers, right.layers
        )
        return
    groups, last = reader.pair.groups.of_rows(chosen), left.layers - 1
    for layer in follow(range(left.layers), "logit lens", unit="layers"):
        found: dict[str, list[Tensor]] = {}
        for rows in reader.blocks(chosen):
            ends = [reader.logs(side, reader.states(side, last, rows)) for side in (0, 1)]
            here = ends
            if layer < last:
                lens = (reader.heads[s].normed(reader.states(s, layer, rows)) for s in (0, 1))
                here = [reader.logs(side, states) for side, states in enumerate(lens)]
            found.setdefault("between", []).append(divergence(*here))
            for side, name in enumerate(("left_own", "right_own") if layer < last else ()):
                found.setdefault(name, []).append(divergence(ends[side], here[side]))
        for statistic, parts in found.items():
            values = torch.cat(parts).double().cpu().numpy()
            means = means_without_each(groups, values)
            reader.pair.rows.add_jackknifed("lens_kl", statistic, means, (layer, layer))


def add_stitching(reader: Reader, chosen: Array, ridge: float, random: np.random.Generator) -> None:
    """The loss that the other model's states add at each head, after maps fitted on other texts."""
    groups = reader.pair.groups
    if groups.count < FOLDS:
        log.warning("%d groups of texts are too few to fit maps on others", groups.count)
        return
    folds = groups.of_row % FOLDS
    for direction, (source, target) in {"right": (1, 0), "back": (0, 1)}.items():
        moments = [_moments(reader, source, target, np.flatnonzero(folds == f), random) for f in range(FOLDS)]
        added: dict[str, Array] = {}
        for fold in range(FOLDS):
            others = [m for f, m in enumerate(moments) if f != fold]
            maps = fitted(sum(others[1:], others[0]), ridge)
            places = np.flatnonzero((folds[chosen] == fold) & (reader.told.following[chosen] >= 0))
            for part in np.array_split(places, -(-len(places) // reader.block)) if len(places) else ():
                for name, losses in _losses(reader, (source, target), chosen[part], maps):
                    added.setdefault(name, np.full(len(chosen), np.nan))[part] = losses
        of_sample = groups.of_rows(chosen)
        for name, values in added.items():
            means = means_without_each(of_sample, values)
            if name == "shuffled":
                reader.pair.rows.add("stitching", name, means[0], direction=direction)
            else:
                reader.pair.rows.add_jackknifed("stitching", name, means, direction=direction)


def _moments(reader: Reader, source: int, target: int, rows: Array, random: np.random.Generator) -> Moments:
    parts: list[Moments] = []
    for some in np.array_split(rows, -(-len(rows) // READ)):
        x, y = (reader.states(side, reader.sides[side].layers - 1, some) for side in (source, target))
        parts.append(Moments.of(x, y, torch.as_tensor(random.permutation(len(some)), device=reader.device)))
    return sum(parts[1:], parts[0])


def _losses(
    reader: Reader, sides: Sequence[int], rows: Array, maps: Mapping[str, Map]
) -> Iterator[tuple[str, Array]]:
    """Each map's loss at the target's head less that of the target's own states, token by token."""
    source, target = sides
    x, own = (reader.states(side, reader.sides[side].layers - 1, rows) for side in (source, target))
    follows = torch.as_tensor(reader.told.following[rows], device=reader.device)[:, None]
    before = reader.logs(target, own).gather(-1, follows)[:, 0]
    for name, carry in maps.items():
        after = reader.logs(target, carry(x)).gather(-1, follows)[:, 0]
        yield name, (before - after).double().cpu().numpy()
