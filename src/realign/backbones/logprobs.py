"""Log-probabilities of given tokens, for which not all logits need to exist at once.

With a vocabulary of 152,000 the logits of 16,000 tokens take 10 GB in float32, and as much again for their
gradient. A token's log-probability needs its own row of logits alone, so where all rows would take more
than `MOST_BYTES` they are made a chunk at a time in the forward pass, and once more in the backward pass.

With states h (N × H), the head's matrix W (V × H), temperature T, logits z = W h / T and tokens y:

    log p = z_y - logsumexp z        ∂ log p / ∂z = onehot(y) - softmax z
"""

import logging
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn import functional

log = logging.getLogger(__name__)
MOST_BYTES = 256 << 20  # of logits in float32 that exist at once
_held_whole: WeakSet[nn.Module] = WeakSet()  # the models that change their logits after their head


def token_logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """The log-probability of each token under the logits at its place, in float32."""
    return torch.log_softmax(logits.float(), dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def logits_fit(model: Any, tokens: Tensor) -> bool:
    """Whether the logits behind so many tokens may exist at once."""
    head = _plain(model).get_output_embeddings()
    return not isinstance(head, nn.Linear) or 4 * tokens.numel() * head.out_features <= MOST_BYTES


def logprobs_of(model: Any, tokens: Tensor, temperature: float = 1.0, **inputs: Any) -> Tensor:
    """The log-probability of each of these tokens (rows × places) under the model's logits there.

    The model's logits may have more places than there are tokens; the first ones count.
    """
    places = tokens.shape[1]
    if _plain(model) not in _held_whole and not logits_fit(model, tokens):
        found = _in_chunks(model, tokens, temperature, inputs)
        if found is not None:
            return found
        _held_whole.add(_plain(model))
        log.warning("this model changes its logits after its head: they are held whole")
    return token_logprobs(model(**inputs).logits[:, :places] / temperature, tokens)


def _in_chunks(model: Any, tokens: Tensor, temperature: float, inputs: dict[str, Any]) -> Tensor | None:
    """The same from a head that gives log-probabilities in place of logits; nothing where it can't.

    The head is called by the model itself, so that ZeRO 3 gathers its weights around the call. Its hooks put
    new tensors over the same memory in the place of the head's output, with a node of their own in the graph
    that gathers the weights for the backward pass. So the model's output is what counts, and is recognised by
    its memory.
    """
    head = _plain(model).get_output_embeddings()
    made: list[Tensor] = []

    def forward(states: Tensor) -> Tensor:
        wanted = states[:, : tokens.shape[1]].flatten(0, 1)
        flat = _LogProbs.apply(wanted, head.weight, head.bias, tokens.flatten(), temperature)
        made.append(flat.view_as(tokens))
        return made[-1]

    head.forward = forward
    try:
        found = model(**inputs).logits
    finally:
        del head.forward  # the class's own again
    ours = found.shape == made[0].shape and found.data_ptr() == made[0].data_ptr()
    return found if ours else None


def _plain(model: Any) -> Any:
    """The model inside DeepSpeed's engine, or the model itself."""
    return getattr(model, "module", model)


class _LogProbs(torch.autograd.Function):
    """Log-probabilities of tokens (N) from states (N × H) and the head's matrix (V × H)."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor, temperature: float
    ) -> Tensor:
        found = torch.empty(len(tokens), dtype=torch.float32, device=states.device)
        for part in _parts(len(tokens), len(weight)):
            logits = functional.linear(states[part], weight, bias).float() / temperature
            found[part] = token_logprobs(logits, tokens[part])
        ctx.save_for_backward(states, weight, bias, tokens)
        ctx.temperature = temperature
        return found

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        states, weight, bias, tokens = ctx.saved_tensors
        (given,) = upstream
        of_states = torch.empty_like(states)
        # Chunks add up in float32: in the weights' own type the small ones would be lost.
        of_weight = torch.zeros_like(weight, dtype=torch.float32)
        of_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        for part in _parts(len(tokens), len(weight)):
            logits = functional.linear(states[part], weight, bias).float() / ctx.temperature
            wanted = given[part].unsqueeze(1)
            slope = torch.softmax(logits, dim=-1).mul_(-wanted)
            slope.scatter_add_(1, tokens[part].unsqueeze(1), wanted)
            narrow = (slope / ctx.temperature).to(weight.dtype)
            of_states[part] = narrow @ weight
            of_weight += narrow.T @ states[part]
            if of_bias is not None:
                of_bias += narrow.sum(0, dtype=torch.float32)
        of_bias = None if of_bias is None else of_bias.to(bias.dtype)
        return of_states, of_weight.to(weight.dtype), of_bias, None, None


def _parts(count: int, vocabulary: int) -> list[slice]:
    """Chunks of rows whose logits may exist at once; the backward pass holds three of their size."""
    rows = max(1, MOST_BYTES // (3 * 4 * vocabulary))
    return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]
