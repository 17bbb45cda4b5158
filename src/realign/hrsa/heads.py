"""What reads next tokens out of a model's states: its final norm and its head, without the model itself.

Of a model's folder nothing else is loaded. The logits are those of the model's own forward pass, with its
decoder taken out, so that scaled and capped logits are what the model makes of them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from realign.artifacts.command import UserError
from realign.hrsa.folders import COMPARABLE, Folder


class NoHead(UserError):
    """A model whose states cannot be read as next tokens."""


class Readout(Protocol):
    """How states become logits."""

    vocabulary: int

    def logits(self, states: Tensor) -> Tensor:
        """Logits (tokens × vocabulary) of final states, which stand after the norm."""
        ...

    def normed(self, states: Tensor) -> Tensor:
        """States of a layer before the last, after the final norm."""
        ...


class _States:
    """What stands for a decoder's output; all that a model may ask of it beside the states is missing."""

    def __init__(self, states: Tensor):
        self.last_hidden_state = states

    def __getitem__(self, _: int) -> Tensor:
        return self.last_hidden_state

    def __getattr__(self, _: str) -> None:
        return None


class _NoDecoder(nn.Module):
    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> _States:
        return _States(inputs_embeds)


class Head:
    """The final norm and the head of a model's folder, in float32."""

    def __init__(self, path: Path, device: torch.device):
        from transformers import AutoConfig, AutoModelForCausalLM

        folder = Folder(path)
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        try:
            with torch.device("meta"):
                model: Any = AutoModelForCausalLM.from_config(config)
        except ValueError:  # transformers knows no such class
            raise NoHead(f"{path}: a {config.model_type} model does not say what comes next") from None
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0])
        embedding = next(n for n, p in model.named_parameters() if p is model.get_input_embeddings().weight)
        inside, name, norm = _final_norm(model, path)
        weights = {n: _weight(folder, f"{inside}.{name}.{n}") for n in norm.state_dict()}
        norm.load_state_dict(weights, assign=True)
        setattr(model, model.base_model_prefix, _NoDecoder())
        tied = embedding if config.tie_word_embeddings else ""
        model.load_state_dict({n: _weight(folder, n, tied) for n in model.state_dict()}, assign=True)
        self._norm, self._model = norm.to(device).eval(), model.to(device).eval()

    @torch.inference_mode()
    def logits(self, states: Tensor) -> Tensor:
        """Logits (tokens × vocabulary) of final states, which stand after the norm."""
        found: Tensor = self._model(inputs_embeds=states[None], use_cache=False).logits[0]
        return found.float()

    @torch.inference_mode()
    def normed(self, states: Tensor) -> Tensor:
        """States of a layer before the last, after the final norm."""
        found: Tensor = self._norm(states)
        return found


def _final_norm(model: Any, path: Path) -> tuple[str, str, nn.Module]:
    """The norm after a decoder's blocks: the name of the module that holds it, its own, and itself."""
    found = list(_norms_after_blocks(model))
    if len(found) != 1 or "." in found[0][0]:
        kind = model.config.model_type
        raise NoHead(f"{path}: the head of a {kind} model is not known")
    return found[0]


def _norms_after_blocks(model: Any) -> Iterator[tuple[str, str, nn.Module]]:
    blocks = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == blocks:
            inside, _, own = name.rpartition(".")
            children = list(model.get_submodule(inside).named_children())
            after = children[[child for child, _ in children].index(own) + 1 :]
            yield from ((inside, n, m) for n, m in after if "norm" in type(m).__name__.lower())


def _weight(folder: Folder, name: str, tied: str = "") -> Tensor:
    """A tensor by the name that the model has for it; a tied head is the embedding."""
    bare = [n.partition(".")[2] if n.split(".")[0] in WRAPPERS else n for n in (name, tied)]
    found = next((n for n in (bare[0], OLD_NAMES.get(bare[0], ""), bare[1]) if n in folder.places), None)
    if found is None:
        raise NoHead(f"{folder.path} holds no {name}, so its states cannot be read as next tokens")
    if (stored := folder.places[found].dtype) not in COMPARABLE:
        raise NoHead(f"{folder.path} holds {name} as {stored}, which is no floating-point weight")
    return folder.rows(found).float()


WRAPPERS = ("model", "transformer", "language_model", "gpt_neox")  # that a folder's names go without
OLD_NAMES = {"lm_head.weight": "embed_out.weight"}  # of models saved by earlier versions of transformers
