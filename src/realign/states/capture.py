"""Tapping a model's layers while it runs, so that only what is kept leaves the device.

Each layer's states are handed on as soon as the layer is reached, and the model holds no list of
them: a text of tens of thousands of tokens costs one layer's states, not all. What is tapped equals
`output_hidden_states` of transformers: the embedding output, the blocks' outputs, and for the last
one its output after the final norm.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from realign.artifacts.command import UserError

Sink = Callable[[int, Tensor], None]


def layer_names(blocks: int, before_norm: bool) -> list[str]:
    """What each layer of a file is; layer 0 is the embedding and no block."""
    names = ["embedding", *(f"block {i}" for i in range(1, blocks))]
    return [*names, *([f"block {blocks} before the norm"] if before_norm else []), f"block {blocks}"]


def decoder_blocks(model: Any) -> nn.ModuleList:
    """A model's blocks, in their order."""
    count = model.config.num_hidden_layers
    found = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    own = getattr(model, "layers", None)
    if isinstance(own, nn.ModuleList) and len(own) == count:
        return own
    if len(found) != 1:
        raise UserError(f"{model.config.model_type}: found {len(found)} lists of {count} blocks, not one")
    return found[0]


@contextmanager
def tapped(model: Any, sink: Sink, before_norm: bool = False) -> Iterator[Callable[..., None]]:
    """A forward pass that hands every layer's states (texts, tokens, width) to `sink(layer, states)`."""
    blocks = decoder_blocks(model)

    def before(layer: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            sink(layer, args[0] if args else kwargs["hidden_states"])

        return hook

    def after(_: nn.Module, __: Any, output: Any) -> None:
        sink(len(blocks), output[0] if isinstance(output, tuple) else output)

    hooks = [b.register_forward_pre_hook(before(i), with_kwargs=True) for i, b in enumerate(blocks)]
    if before_norm:
        hooks.append(blocks[-1].register_forward_hook(after))

    @torch.inference_mode()
    def forward(**inputs: Tensor) -> None:
        sink(len(blocks) + before_norm, model(**inputs).last_hidden_state)

    try:
        yield forward
    finally:
        for hook in hooks:
            hook.remove()
