"""The command `extract`: one model's hidden states over one corpus, in one attention mode.

The plan is made first; then one or several processes make its shards; then the shards become two
HDF5 files, one of tokens and one of pooled texts. A job that was killed continues from its shards.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from realign.artifacts.command import Interrupted, Job, UserError
from realign.artifacts.manifest import content_hash
from realign.embedder.attention import assert_attention
from realign.embedder.model import load_model, load_tokenizer
from realign.engine.launch import launch
from realign.engine.progress import Progress
from realign.engine.signals import Leaving
from realign.states.capture import layer_names
from realign.states.format import write_states
from realign.states.plan import Corpus, Plan, make_plan, read_corpus
from realign.states.shards import STORED, ShardWriter, shard_folder
from realign.study.states import Extract

log = logging.getLogger(__name__)


def run(job: Job[Extract]) -> None:
    """Extract one model's states over a corpus."""
    settings, model, source = job.settings, job.input("model"), job.input("corpus")
    corpus = read_corpus(source)
    layers, width = shape_of(model, settings)
    plan = planned(corpus, source, model, settings, job.scratch)
    log.info("%d texts, %d tokens, %d kept", plan.texts, len(plan.token_ids), plan.rows)
    _warn_of_what_is_missing(plan, settings)
    processes = settings.hardware.processes or max(1, torch.cuda.device_count())
    processes = max(1, min(processes, plan.shards))
    if processes == 1:
        with Leaving() as leaving:
            make_shards(model, settings, plan, job.scratch, 0, 1, leaving)
    else:
        spec = {
            "settings": settings.model_dump(mode="json"),
            "model": str(model),
            "scratch": str(job.scratch),
        }
        threads = max(1, job.threads // processes)
        launch("realign.states.worker", spec, job.scratch / "worker.json", processes, threads=threads)
    attributes = described(settings, model, source)
    for name in ("states", "pooled"):
        write_states(job.output(name), plan, corpus, job.scratch, layers, width, attributes, name == "pooled")
    job.note(texts=plan.texts, tokens=len(plan.token_ids), tokens_kept=plan.rows, layers=len(layers))


def planned(corpus: Corpus, source: Path, model: Path, settings: Extract, scratch: Path) -> Plan:
    """The plan that an earlier attempt made, or a new one."""
    path = scratch / "plan.npz"
    if path.is_file():
        return Plan.load(path)
    layers, width = shape_of(model, settings)
    row_bytes = len(layers) * width * STORED[settings.storage].itemsize
    plan = make_plan(corpus, source, load_tokenizer(model), settings, row_bytes)
    plan.save(path)
    return plan


def shape_of(model: Path, settings: Extract) -> tuple[list[str], int]:
    """The layers that will be kept of a model, and its width."""
    from transformers import AutoConfig

    if not (model / "config.json").is_file():
        raise UserError(f"{model}: holds no config.json, so it is no model's directory")
    config = AutoConfig.from_pretrained(model, trust_remote_code=False, local_files_only=True)
    return layer_names(config.num_hidden_layers, settings.before_norm), int(config.hidden_size)


def make_shards(
    model: Path, settings: Extract, plan: Plan, scratch: Path, rank: int, processes: int, leaving: Leaving
) -> None:
    """This process's shards, those that are there already left out."""
    mine = [i for i in range(rank, plan.shards, processes) if not shard_folder(scratch, i).is_dir()]
    if not mine:
        return
    device = this_device()
    loaded = load_model(
        model, settings.attention, settings.attn_implementation, device, compute_dtype(settings, device)
    )
    assert_attention(loaded, settings.attention, model)
    _warn_of_long_texts(plan, loaded)
    writer = ShardWriter(loaded, plan, settings, scratch)
    tokens = sum(int(plan.text_bounds[s.stop] - plan.text_bounds[s.start]) for s in map(plan.shard, mine))
    with Progress(f"extract {settings.model_name} {settings.corpus_name}", tokens, "tokens") as progress:
        for index in mine:
            if leaving.asked:
                raise Interrupted(f"left after {leaving.received} with whole shards")
            writer.write(index, progress.advance)


def this_device() -> torch.device:
    """This process's GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    return device


def compute_dtype(settings: Extract, device: torch.device) -> torch.dtype:
    """The precision of the forward pass."""
    if settings.compute == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return getattr(torch, settings.compute)


def described(settings: Extract, model: Path, source: Path) -> Mapping[str, Any]:
    """What the file says of itself; a function of what was asked and read, without dates or places."""
    dtype = compute_dtype(settings, this_device())
    return {
        "model": settings.model_name,
        "model_hash": content_hash(model),
        "corpus": settings.corpus_name,
        "corpus_hash": content_hash(source),
        "attention": settings.attention,
        "compute": str(dtype).removeprefix("torch."),
        "storage": settings.storage,
        "selection": settings.tokens.as_slice(),
        "selection_seed": settings.seed,
        "max_tokens": settings.max_tokens,
        "special_tokens": str(settings.special_tokens).lower(),
        "pooling": settings.pooling,
    }


def _warn_of_what_is_missing(plan: Plan, settings: Extract) -> None:
    counts = plan.text_bounds[1:] - plan.text_bounds[:-1]
    if settings.max_tokens is not None and (cut := int((counts >= settings.max_tokens).sum())):
        log.warning(
            "%d of %d texts have max_tokens (%d) or more and were cut there",
            cut,
            plan.texts,
            settings.max_tokens,
        )
    if empty := int((plan.kept_bounds[1:] == plan.kept_bounds[:-1]).sum()):
        log.warning("of %d of %d texts no token is kept", empty, plan.texts)


def _warn_of_long_texts(plan: Plan, model: Any) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    longer = int(((plan.text_bounds[1:] - plan.text_bounds[:-1]) > (limit or float("inf"))).sum())
    if longer:
        log.warning(
            "%d of %d texts are longer than the %s positions that this model was made for",
            longer, plan.texts, limit,
        )  # fmt: skip
