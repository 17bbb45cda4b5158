"""From token states to one vector a text, defined so that sentence-transformers agrees.

Tokens of the instruction can be left out: they are the first tokens of a text, as many as the
instruction has when it is tokenized alone. Positions of a weighted mean count from the text's
first token, also when an instruction is left out.
"""

import torch
from torch import Tensor

# What each pooling is called in sentence-transformers.
NAMES_ELSEWHERE = {"mean": "mean", "last": "lasttoken", "cls": "cls", "weighted_mean": "weightedmean"}


def pooled_tokens(attention_mask: Tensor, prompt_lengths: Tensor) -> Tensor:
    """Which tokens are pooled: those of the text, after its instruction; padding on either side."""
    present = attention_mask.bool()
    return present & (_positions(present) >= prompt_lengths.unsqueeze(1))


def pool(states: Tensor, attention_mask: Tensor, prompt_lengths: Tensor, how: str) -> Tensor:
    """One vector a text, in float32 or wider, from states of shape (texts, tokens, width).

    A text of which nothing is left after its instruction gives zeros (`mean`, `last`,
    `weighted_mean`) or its first token (`cls`).
    """
    kept = pooled_tokens(attention_mask, prompt_lengths)
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    if how == "mean":
        return _weighted(states, kept.to(states.dtype))
    if how == "weighted_mean":
        return _weighted(states, kept * (_positions(attention_mask.bool()) + 1).to(states.dtype))
    if how == "cls":
        return _pick(states, kept.to(torch.int8).argmax(dim=1))
    if how == "last":
        last = kept.shape[1] - 1 - kept.flip(1).to(torch.int8).argmax(dim=1)
        return _pick(states, last) * kept.any(dim=1, keepdim=True)
    raise ValueError(f"no pooling is called {how!r}")


def pool_pack(states: Tensor, bounds: Tensor, prompt_lengths: Tensor, how: str) -> Tensor:
    """The same vectors from states of shape (tokens, width) of texts that stand one after the other."""
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    starts, lengths = bounds[:-1].long(), bounds.diff().long()
    text = torch.repeat_interleave(torch.arange(len(lengths), device=states.device), lengths)
    positions = torch.arange(len(states), device=states.device) - starts[text]
    kept = positions >= prompt_lengths[text]
    if how in ("mean", "weighted_mean"):
        weights = (kept * (positions + 1) if how == "weighted_mean" else kept).to(states.dtype).unsqueeze(1)
        sums = torch.segment_reduce(torch.cat([states * weights, weights], dim=1), "sum", lengths=lengths)
        return sums[:, :-1] / sums[:, -1:].clamp(min=1e-9)
    if how == "cls":
        return states[starts + torch.where(prompt_lengths < lengths, prompt_lengths, 0)]
    if how == "last":
        return states[starts + lengths - 1] * (prompt_lengths < lengths).unsqueeze(1)
    raise ValueError(f"no pooling is called {how!r}")


def _positions(present: Tensor) -> Tensor:
    """Each token's place in its text, from 0; padding on the left is before 0."""
    places = torch.arange(present.shape[1], device=present.device).unsqueeze(0)
    return places - present.to(torch.int8).argmax(dim=1, keepdim=True)


def _weighted(states: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return torch.bmm(weights.unsqueeze(1), states).squeeze(1) / total


def _pick(states: Tensor, index: Tensor) -> Tensor:
    return states[torch.arange(len(states), device=states.device), index]
