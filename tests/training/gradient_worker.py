"""Runs on every process of the gradient table: each case's gradients and stepped parameters, whole."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from gradient_cases import labels_of
from realign.embedder.model import Embedder
from realign.embedder.tokens import Rows
from realign.engine.deepspeed_setup import (
    build_config,
    divided,
    full_gradient,
    full_parameter,
    initialize,
    trainable,
    whole_shape,
)
from realign.engine.distributed import joined
from realign.engine.worker import work
from realign.study.embedder import EmbedderSettings
from realign.study.loss import Loss
from realign.training.loss import Labels
from realign.training.step import ContrastiveStep, LocalBatch

OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.05),
}


def rows(ids, prompts):
    return Rows([list(i) for i in ids], list(prompts))


def local(data, world, labelled):
    part = world.share(len(data["queries"]))
    group = data["group"]
    wide = slice(part.start * group, part.stop * group)
    queries = rows(data["queries"][part], data["prompts"][part])
    passages = rows(data["passages"][wide], [0] * (wide.stop - wide.start))
    labels = Labels(torch.tensor(data["texts"][wide]))
    if labelled:
        whole = labels_of(len(data["queries"]), group)
        guide = whole.guide[0][part], whole.guide[1][wide]
        labels = Labels(whole.texts[wide], whole.weights[part], whole.scores[part], guide)
    return LocalBatch.of(queries, passages, labels, len(data["queries"]), group, world)


def run_case(case, batches, spec, world):
    precision, once = case.get("precision", "fp32"), case["reduce_once"]
    config = build_config(case["stage"], precision, world.size, 30_000, reduce_once=once)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    settings = EmbedderSettings(**spec["settings"], **case.get("settings", {}))
    with divided(config):
        model = Embedder.load(spec["model"], settings, device=world.device, dtype=dtype, check=False)
    if case.get("checkpointing"):
        model.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    held = sum(getattr(p, "ds_tensor", p).numel() for p in model.parameters())
    whole = sum(whole_shape(p).numel() for p in model.parameters())
    assert held <= (whole / world.size * 1.01 + 100 if case["stage"] == 3 else whole)
    model.train()
    groups = [{"params": list(model.parameters())}]
    engine = initialize(model, groups, OPTIMIZERS[case["optimizer"]], config)
    loss, kept = Loss(**case["loss"]), case.get("kept", 0)
    step = ContrastiveStep(engine, world, loss, case["budget"], once, kept_tokens=kept)
    found, facts = {}, []
    for number, data in enumerate(batches):
        facts.append(step(local(data, world, "option" in case)).__dict__)
        if number == 0:
            for name, parameter in trainable(engine.module).items():
                found["gradient/" + name] = full_gradient(parameter).clone()
        engine.step()
    for name, parameter in trainable(engine.module).items():
        found["stepped/" + name] = full_parameter(parameter).clone()
    engine.destroy()
    return found, facts


def main(spec, path):
    with joined() as world:
        for name, case in spec["cases"].items():
            torch.manual_seed(0)
            found, facts = run_case(case, spec["batches"][case["data"]], spec, world)
            if world.is_main:
                save_file(found, Path(spec["out"], f"{name}.safetensors"))
                Path(spec["out"], f"{name}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    work(main)
