"""Runs on every process: gradients of log-probabilities, whole and in chunks, inside DeepSpeed's engine."""

import itertools
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from realign.backbones import logprobs
from realign.backbones.logprobs import logprobs_of
from realign.engine.deepspeed_setup import build_config, full_gradient, initialize, trainable
from realign.engine.distributed import joined
from realign.engine.worker import work


def gradients(spec, tied, stage, most_bytes, world):
    """Values of all processes and the step's gradient, of two passes that add up; the most rows of logits."""
    logprobs.MOST_BYTES = most_bytes
    read = []
    plain = logprobs.token_logprobs
    logprobs.token_logprobs = lambda logits, tokens: (read.append(tokens.numel()), plain(logits, tokens))[1]
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**spec["shape"], tie_word_embeddings=tied))
    config = build_config(stage, "fp32", world.size, 30_000)
    engine = initialize(
        model, [{"params": list(model.parameters())}], lambda g: torch.optim.SGD(g, lr=0.1), config
    )
    found = {}
    for number, ids in enumerate(torch.tensor(spec["ids"])):
        ours = ids[world.share(len(ids))]
        places = spec["places"]
        values = logprobs_of(engine, ours[:, -places:], 0.7, input_ids=ours, logits_to_keep=places + 1)
        engine.set_gradient_accumulation_boundary(number == 1)
        engine.backward(values.sum() * world.size)
        found[f"values/{number}"] = world.gather_rows(values.detach(), [len(ours)] * world.size)
    for name, parameter in trainable(engine.module).items():
        found[f"gradient/{name}"] = full_gradient(parameter).contiguous().clone()
    engine.destroy()
    logprobs.token_logprobs = plain
    found["most"] = torch.tensor([max(read)])
    return found


def main(spec, path):
    with joined() as world:
        for tied, stage, way in itertools.product((True, False), spec["stages"], spec["ways"]):
            found = gradients(spec, tied, stage, spec["ways"][way], world)
            if world.is_main:
                save_file(found, Path(spec["out"], f"{tied}-{stage}-{way}.safetensors"))


if __name__ == "__main__":
    work(main)
