"""Numbers of single tokens from two models' logits, and their summaries with intervals over texts.

With p and q the left and the right model's distributions over the next token:

- token_kl: Σ p ln(p/q) and Σ q ln(q/p); token_js: half of Σ p ln(p/m) + Σ q ln(q/m) with m = (p + q)/2
- top1_agreement: whether both have one most likely token; top_rank: 1 + how many tokens one model finds
  more likely than the other's top token
- token_entropy: −Σ p ln p; text_loss: −ln p of the token that really follows

All are in nats.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import log

import numpy as np
import torch
from torch import Tensor

from realign.hrsa.groups import Groups
from realign.hrsa.reading import Array
from realign.hrsa.rows import Rows

Numbers = dict[str, Array]
AFTER_MEAN = {"top_rank.left_in_right": np.exp, "top_rank.right_in_left": np.exp}  # whose means are of logs
PERPLEXITY = {"left": "left", "right": "right", "ratio": "change"}  # from which mean loss
BY_BIN = (
    "token_kl.left_right", "token_kl.right_left", "token_js.mean", "top1_agreement.share",
    "token_entropy.left", "token_entropy.right", "text_loss.change",
)  # fmt: skip


def divergence(lp: Tensor, lq: Tensor) -> Tensor:
    """KL(p‖q) of each row of log-probabilities."""
    return (lp.exp() * (lp - lq)).sum(-1).clamp(min=0)  # which rounding can take below 0


def token_numbers(lp: Tensor, lq: Tensor, following: Tensor) -> dict[str, Tensor]:
    """Each number of each token from both models' log-probabilities (tokens × vocabulary).

    `following` holds the place of the token that follows, or a negative number where none is known.
    """
    middle = torch.logaddexp(lp, lq) - log(2)
    tops = lp.argmax(-1, keepdim=True), lq.argmax(-1, keepdim=True)
    entropies = [-(side.exp() * side).sum(-1) for side in (lp, lq)]
    scored = following >= 0
    losses = [
        torch.where(scored, -side.gather(-1, following.clamp(min=0)[:, None])[:, 0], torch.nan)
        for side in (lp, lq)
    ]
    return {
        "token_kl.left_right": divergence(lp, lq),
        "token_kl.right_left": divergence(lq, lp),
        "token_js.mean": (divergence(lp, middle) + divergence(lq, middle)) / 2,
        "top1_agreement.share": (tops[0] == tops[1])[:, 0].float(),
        "top_rank.left_in_right": _log_rank(lq, tops[0]),
        "top_rank.right_in_left": _log_rank(lp, tops[1]),
        "token_entropy.change": entropies[1] - entropies[0],
        "token_entropy.left": entropies[0],
        "token_entropy.right": entropies[1],
        "text_loss.change": losses[1] - losses[0],
        "text_loss.left": losses[0],
        "text_loss.right": losses[1],
    }


def _log_rank(side: Tensor, token: Tensor) -> Tensor:
    return ((side > side.gather(-1, token)).sum(-1) + 1).float().log()


def add_summaries(rows: Rows, numbers: Numbers, positions: Array, edges: Sequence[int], bins: int) -> None:
    """Means over all tokens, and by bins of the left model's entropy and of the position in the text."""
    groups = rows.groups
    for name, values in numbers.items():
        means = AFTER_MEAN.get(name, np.asarray)(means_without_each(groups, values))
        measure, statistic = name.split(".")
        rows.add_jackknifed(measure, statistic, means)
    for statistic, loss in PERPLEXITY.items():
        means = means_without_each(groups, numbers[f"text_loss.{loss}"])
        rows.add_jackknifed("perplexity", statistic, np.exp(means))
    halves = half_share(groups, numbers["token_kl.left_right"])
    if np.isfinite(halves[0]):
        rows.add_jackknifed("token_kl", "half_share", halves)
    entropy = numbers["token_entropy.left"]
    for i, edge in enumerate(np.quantile(entropy, np.linspace(0, 1, bins + 1))):
        rows.add("token_entropy", "edge", float(edge), part="entropy", k=i)
    which = np.digitize(positions, edges)
    for i in range(len(edges) + 1):
        rows.add("token_kl", "tokens", float((which == i).sum()), part="position", k=i)
    parts = (
        ("entropy", by_quantile(groups, numbers, entropy, bins)),
        ("position", by_bin(groups, numbers, which)),
    )
    for part, found in parts:
        for name, i, means in found:
            measure, statistic = name.split(".")
            rows.add_jackknifed(measure, statistic, means, part=part, k=i)


def means_without_each(groups: Groups, values: Array, chosen: Array | None = None) -> Array:
    """The mean over tokens, then the same without each group; tokens without a number (NaN) are left out."""
    there = np.isfinite(values) if chosen is None else np.isfinite(values) & chosen
    sums, counts = (
        groups.leave_out(np.bincount(groups.of_row[there], weights, minlength=groups.count))
        for weights in (values[there], None)
    )
    with np.errstate(invalid="ignore"):  # without a lone group nothing is left
        return np.asarray(sums / counts)


def by_bin(groups: Groups, numbers: Mapping[str, Array], which: Array) -> Iterator[tuple[str, int, Array]]:
    """The means of the tokens of each bin, of bins that there are tokens of."""
    for i in np.unique(which):
        for name in BY_BIN:
            means = means_without_each(groups, numbers[name], which == i)
            if np.isfinite(means[0]):
                yield name, int(i), means


def by_quantile(
    groups: Groups, numbers: Mapping[str, Array], by: Array, bins: int
) -> Iterator[tuple[str, int, Array]]:
    """The same of equally many tokens by another number, the edges taken anew without each group."""
    shares = np.linspace(0, 1, bins + 1)[1:-1]
    means = {name: np.full((groups.count + 1, bins), np.nan) for name in BY_BIN}
    for lost in range(-1, groups.count):
        kept = groups.of_row != lost
        which = np.digitize(by, np.quantile(by[kept], shares)) if kept.any() else np.zeros(len(by), int)
        for name in BY_BIN:
            there = kept & np.isfinite(numbers[name])
            sums, counts = (
                np.bincount(which[there], weights, minlength=bins) for weights in (numbers[name][there], None)
            )
            with np.errstate(invalid="ignore"):
                means[name][lost + 1] = sums / counts
    for name, found in means.items():
        for i in range(bins):
            if np.isfinite(found[0, i]):
                yield name, i, found[:, i]


def half_share(groups: Groups, kl: Array) -> Array:
    """The least share of tokens that has half of the whole, of all and without each group."""
    order = np.argsort(-kl)
    sorted_kl, group = kl[order], groups.of_row[order]
    found = []
    for lost in range(-1, groups.count):
        values = sorted_kl[group != lost]
        reached = np.r_[0.0, np.cumsum(values)]
        if reached[-1] <= 0:
            found.append(np.nan)
            continue
        last = int(np.searchsorted(reached, reached[-1] / 2)) - 1  # the token that the half ends in
        found.append((last + (reached[-1] / 2 - reached[last]) / values[last]) / len(values))
    return np.array(found)
