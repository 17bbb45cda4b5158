"""Fine-tuning a backbone on worked solutions: the question is read, the solution is learned."""

from realign.artifacts.command import Job, UserError
from realign.backbones.corpus import read_all_problems
from realign.backbones.derive import finish, run_here_or_launch, work_as
from realign.backbones.loop import Facts, Learner, learn
from realign.backbones.model import load_backbone, stored_dtype
from realign.backbones.packing import Stream, pack, problem_documents
from realign.backbones.site import Site
from realign.backbones.steps import language_step
from realign.engine.worker import work
from realign.study.backbones import Sft


def run(job: Job[Sft]) -> None:
    """Fine-tune a backbone."""
    run_here_or_launch(job, "realign.backbones.sft", make)


def make(site: Site[Sft]) -> None:
    """Tune a copy of the base and lay it out."""
    settings, base = site.settings, site.inputs["base"]
    model, tokenizer = load_backbone(base)
    problems = [p for p in read_all_problems(site.inputs["problems"]) if p.trace.strip()]
    documents = list(
        problem_documents(problems, tokenizer, settings.length, settings.prompt, silent_prompt=True)
    )
    if not documents:
        raise UserError(f"{site.inputs['problems']}: no worked solution fits into {settings.length} tokens")
    site.facts |= {"solutions": len(documents), "left_out": len(problems) - len(documents)}
    blocks = pack(documents, settings.length, tokenizer.pad_token_id)
    stream = Stream(blocks, settings.optimisation.seed or 0, "solutions")
    mine = site.split(settings.batch, "batch")

    def step(learner: Learner, number: int, rate: float) -> Facts:
        batch = stream.batch(number, settings.batch)
        return language_step(learner, batch, mine, site.hardware.micro_batch, rate)

    learner = learn(model, settings.optimisation, site, "sft", step)
    finish(site, learner, tokenizer, stored_dtype(settings.stored, base))


if __name__ == "__main__":
    work(work_as(Sft, make))
