"""Which tokens a token sees: the library's own switch, the kernel that serves it, and proof of both.

A decoder-only model is made bidirectional by `config.is_causal = False`, which transformers
honours natively. Nothing is taken on trust: at load a later token must change an earlier state
(or must not, in causal mode), and padding on either side must change nothing.
"""

import logging
from typing import Any

import torch
from torch import Tensor

from realign.artifacts.command import UserError
from realign.embedder.packing import PACKED, register_packed_attention
from realign.embedder.tokens import Rows, pack

log = logging.getLogger(__name__)

# Relative to a state's length. A mask that is ignored moves states by half their length and more; rounding
# in float32 moves those of thirty real layers by 2e-5, and half precision's kernels differ with and without
# one.
PADDING_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}
HALF_TOLERANCE = 1e-1
# A state that cannot have seen the other token is the same to the bit; one that has, differs by far more.
SEES = 1e-6
ENCODER = (
    "; if the model is an encoder, it reads both ways: choose `bidirectional` attention "
    "(`hrsa.backbone_attention: [bidirectional]`, or --attention bidirectional of `realign compare`)"
)


def choose_implementation(asked: str, dtype: torch.dtype, device: torch.device) -> str:
    """The attention kernel: what was asked for, or for `auto` and `packed` the fastest that works here."""
    if asked not in ("auto", "packed"):
        return asked
    from transformers.utils import is_flash_attn_2_available

    fits = device.type == "cuda" and dtype in (torch.float16, torch.bfloat16)
    if fits and is_flash_attn_2_available() and torch.cuda.get_device_capability(device) >= (8, 0):
        return "flash_attention_2"
    if asked == "auto":
        return "sdpa"
    register_packed_attention()
    return PACKED


def set_attention(config: Any, attention: str) -> None:
    """Switch a model's configuration to causal or bidirectional attention, without a cache."""
    config.is_causal = attention == "causal"
    config.use_cache = False


@torch.no_grad()
def assert_attention(model: Any, attention: str, source: object = "model", packed: bool = False) -> None:
    """Stop unless the model really attends as asked and ignores padding on both sides.

    With `packed`, texts will stand in packs, whichever kernel serves them, and must ignore their neighbours.
    """
    packed = packed or model.config._attn_implementation == PACKED  # which knows no padding
    run = _packed_states if packed else _states
    ids = _probe(model)
    states = run(model, ids)
    other = ids.clone()
    other[0, -1] = ids[0, 0]
    seen = _difference(run(model, other)[:, :-1], states[:, :-1])
    if attention == "bidirectional" and seen < SEES:
        raise UserError(
            f"{source}: attention was to be bidirectional, and a later token changes no earlier state; "
            f"this model type ({model.config.model_type}) or its attention kernel "
            f"({model.config._attn_implementation}) ignores the switch `is_causal`"
        )
    if attention == "causal" and seen > SEES:
        raise UserError(
            f"{source}: attention was to be causal, and a later token changes earlier states by {seen:.1e}"
        )
    tolerance = PADDING_TOLERANCE.get(_precision(model), HALF_TOLERANCE)
    if packed:
        if not (moved := _neighbour_effect(model, ids, states)) <= tolerance:
            raise UserError(
                f"{source}: a packed text's neighbour changes its states by {moved:.1e} "
                f"(allowed: {tolerance:.0e}); the attention kernel {model.config._attn_implementation} "
                "does not keep them apart"
            )
        log.info("%s: a packed text's neighbour changes its states by %.1e", source, moved)
        return
    effects = {side: _padding_effect(model, ids, states, side) for side in ("right", "left")}
    for side, moved in effects.items():
        if not moved <= tolerance:
            raise UserError(
                f"{source}: padding on the {side} changes states by {moved:.1e} (allowed: {tolerance:.0e}); "
                f"the attention kernel {model.config._attn_implementation} ignores the padding mask"
                + (ENCODER if attention == "causal" else "")
            )
    shown = ", ".join(f"{moved:.1e} on the {side}" for side, moved in effects.items())
    log.info("%s: padding changes states by %s (allowed: %.0e)", source, shown, tolerance)


def _precision(model: Any) -> torch.dtype:
    """The precision of products, which on a GPU may be less than float32 where float32 is asked for."""
    reduced = model.device.type == "cuda" and torch.get_float32_matmul_precision() != "highest"
    return torch.bfloat16 if reduced and model.dtype == torch.float32 else model.dtype


def _probe(model: Any, length: int = 6) -> Tensor:
    """A few different tokens, none of them the first ids, where special tokens tend to lie."""
    vocabulary = model.get_input_embeddings().num_embeddings
    ids = [(vocabulary // 3 + 7 * i) % vocabulary for i in range(length)]
    return torch.tensor([ids], device=model.device)


def _states(model: Any, ids: Tensor, mask: Tensor | None = None, places: Tensor | None = None) -> Tensor:
    mask = torch.ones_like(ids) if mask is None else mask
    given = {} if places is None else {"position_ids": places}
    return model(input_ids=ids, attention_mask=mask, **given).last_hidden_state


def _packed_states(model: Any, ids: Tensor | list[list[int]]) -> Tensor:
    rows = ids.tolist() if isinstance(ids, Tensor) else ids
    return model(**pack(Rows(rows, [0] * len(rows))).to(model.device).inputs()).last_hidden_state


def _neighbour_effect(model: Any, ids: Tensor, states: Tensor) -> float:
    """How far states move when another text stands before and behind in the same pack."""
    row = ids[0].tolist()
    moved = _packed_states(model, [row[::-1], row, row[:2]])
    return _difference(moved[:, len(row) : 2 * len(row)], states)


def _padding_effect(model: Any, ids: Tensor, states: Tensor, side: str, by: int = 3) -> float:
    """How far states move when the text stands beside a longer one, padded on a side."""
    filler = ids[:, :1].expand(1, by)
    none = torch.zeros_like(filler)
    parts = (ids, filler) if side == "right" else (filler, ids)
    masks = (torch.ones_like(ids), none) if side == "right" else (none, torch.ones_like(ids))
    padded, mask = torch.cat(parts, dim=1), torch.cat(masks, dim=1)
    longer = torch.cat([ids, filler], dim=1)
    both = torch.cat([longer, padded])
    both_mask = torch.cat([torch.ones_like(longer), mask])
    places = (both_mask.cumsum(dim=1) - 1).clamp(min=0)
    moved = _states(model, both, both_mask, places if side == "left" else None)[1:]
    length = ids.shape[1]
    return _difference(moved[:, :length] if side == "right" else moved[:, -length:], states)


def _difference(left: Tensor, right: Tensor) -> float:
    """The largest distance between two states, relative to their length."""
    left, right = left.double(), right.double()
    norms = right.norm(dim=-1).clamp(min=1e-12)
    return float(((left - right).norm(dim=-1) / norms).max())
