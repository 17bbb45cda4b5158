"""Making a small base model from nothing: its tokenizer, then its weights, from text and problems."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from realign.artifacts.command import Job
from realign.backbones.corpus import read_all_problems, read_texts
from realign.backbones.derive import finish, run_here_or_launch, work_as
from realign.backbones.layout import load_tokenizer
from realign.backbones.loop import Facts, Learner, learn
from realign.backbones.model import build_model, stored_dtype
from realign.backbones.packing import Blocks, Stream, pack, problem_documents, text_documents
from realign.backbones.site import Site
from realign.backbones.steps import language_step
from realign.backbones.tokenizer import train_tokenizer
from realign.engine.worker import work
from realign.seeds import derive_seed
from realign.study.backbones import Pretrain, Prompt


def run(job: Job[Pretrain]) -> None:
    """Pretrain a model."""
    run_here_or_launch(job, "realign.backbones.pretrain", make)


def make(site: Site[Pretrain]) -> None:
    """Train tokenizer and model, and lay both out."""
    settings, seed = site.settings, site.settings.optimisation.seed or 0
    texts = [t.text for t in read_texts(site.inputs["text"]) if not t.is_held_out(settings.held_out)]
    problems = read_all_problems(site.inputs["problems"]) if settings.problem_share else []

    def write_tokenizer(folder: Path) -> None:
        corpus = [*texts, *(p.text for p in problems)]
        train_tokenizer(corpus, settings.tokenizer, settings.architecture.positions).save_pretrained(folder)

    tokenizer = load_tokenizer(site.once("tokenizer", write_tokenizer))
    pack_up = partial(pack, length=settings.length, padding=tokenizer.pad_token_id)
    streams = [
        (share, Stream(pack_up(documents), seed, name))
        for share, name, documents in (
            (1 - settings.problem_share, "text", text_documents(texts, tokenizer, settings.length)),
            (
                settings.problem_share,
                "problems",
                problem_documents(problems, tokenizer, settings.length, Prompt(), silent_prompt=False),
            ),
        )
        if share
    ]
    site.facts |= {"texts": len(texts), "problems": len(problems)}
    mine = site.split(settings.batch, "batch")

    def step(learner: Learner, number: int, rate: float) -> Facts:
        blocks = mixed_batch(streams, number, settings.batch)
        return language_step(learner, blocks, mine, site.hardware.micro_batch, rate)

    model = build_model(settings.architecture, tokenizer, derive_seed(seed, "pretrain", "weights"))
    learner = learn(model, settings.optimisation, site, "pretrain", step)
    finish(site, learner, tokenizer, stored_dtype(settings.stored))


def mixed_batch(streams: Sequence[tuple[float, Stream]], step: int, size: int) -> Blocks:
    """One step's blocks, from each stream its share."""
    counts = [round(share * size) for share, _ in streams[:-1]]
    counts.append(size - sum(counts))
    return Blocks.join([s.batch(step, n) for n, (_, s) in zip(counts, streams, strict=True) if n])


if __name__ == "__main__":
    work(work_as(Pretrain, make))
