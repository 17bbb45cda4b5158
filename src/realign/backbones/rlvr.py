"""Tuning a backbone by reinforcement with verifiable rewards: GRPO.

Each step draws problems, samples a group of answers to each, lets rules reward them, and moves the
policy towards the answers that did better than their group, within a clip and near the backbone that
it started from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from realign.artifacts.command import Job, UserError
from realign.backbones.corpus import read_all_problems
from realign.backbones.derive import finish, run_here_or_launch, work_as
from realign.backbones.grpo import Objective, group_advantages, kl_to_reference
from realign.backbones.logprobs import logprobs_of
from realign.backbones.loop import Chunk, Facts, Learner, learn
from realign.backbones.model import end_tokens, load_backbone, load_model, stored_dtype
from realign.backbones.prompts import prompt_tokens
from realign.backbones.rewards import reward
from realign.backbones.rollout import Answer, Batch, Sampler
from realign.backbones.site import Site
from realign.engine.devices import precision_on
from realign.engine.worker import is_out_of_memory, work
from realign.seeds import derive_seed
from realign.study.backbones import Rlvr
from realign.text.problems import Problem, score


def run(job: Job[Rlvr]) -> None:
    """Tune a backbone by GRPO."""
    run_here_or_launch(job, "realign.backbones.rlvr", make)


def make(site: Site[Rlvr]) -> None:
    """Tune a copy of the base and lay it out."""
    settings, base = site.settings, site.inputs["base"]
    model, tokenizer = load_backbone(base)
    problems = read_all_problems(site.inputs["problems"])
    tasks = prompts_of(problems, tokenizer, settings)
    site.facts |= {"problems": len(tasks), "left_out": len(problems) - len(tasks)}
    trainer = Trainer(settings, site, tokenizer, tasks, end_tokens(model, tokenizer))
    learner = learn(model, settings.optimisation, site, "rlvr", trainer.step)
    finish(site, learner, tokenizer, stored_dtype(settings.stored, base))


@dataclass(frozen=True)
class Task:
    """A problem as the policy sees it."""

    problem: Problem
    prompt: tuple[int, ...]


def prompts_of(problems: Sequence[Problem], tokenizer: Any, settings: Rlvr) -> list[Task]:
    """The problems whose prompts are short enough, easiest first."""
    longest = settings.rollouts.max_prompt_tokens
    prompts = prompt_tokens(problems, tokenizer, settings.prompt)
    tasks = [Task(p, ids) for p, ids in zip(problems, prompts, strict=True) if len(ids) <= longest]
    if not tasks:
        raise UserError(f"no problem has a prompt of at most {longest} tokens")
    return sorted(tasks, key=lambda t: (t.problem.difficulty, t.problem.id))


def admitted(tasks: Sequence[Task], step: int, steps: int, curriculum: float) -> int:
    """How many of the tasks, easiest first, are drawn from at a step.

    Levels of difficulty are let in one after the other, evenly over the curriculum's share of the
    steps; after it, all are.
    """
    levels = sorted({t.problem.difficulty for t in tasks})
    over = curriculum * steps
    reached = len(levels) if step >= over else 1 + int(step / over * len(levels))
    hardest = levels[min(reached, len(levels)) - 1]
    return sum(t.problem.difficulty <= hardest for t in tasks)


def load_reference(site: Site[Rlvr]) -> Any:
    """The base, frozen, in the type of the computation."""
    precision = precision_on(site.world.device, site.settings.optimisation.precision)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return load_model(site.inputs["base"], dtype).to(site.world.device).eval().requires_grad_(False)


class Trainer:
    """One process's part in GRPO: its share of the problems, the reference, the objective."""

    def __init__(
        self, settings: Rlvr, site: Site[Rlvr], tokenizer: Any, tasks: list[Task], ends: tuple[int, ...]
    ):
        self.settings, self.tokenizer, self.tasks = settings, tokenizer, tasks
        self.world, self.seed = site.world, settings.optimisation.seed or 0
        self.micro_batch = site.hardware.micro_batch
        self.mine = site.split(settings.batch, "batch")
        high = settings.clip if settings.clip_high is None else settings.clip_high
        self.objective = Objective(settings.clip, high, settings.kl, settings.loss)
        self.reference = load_reference(site) if settings.kl else None
        rollouts = settings.rollouts
        self.sampler = Sampler(
            ends, tokenizer.pad_token_id, rollouts.max_new_tokens, rollouts.temperature, rollouts.batch
        )

    def drawn(self, step: int) -> list[Task]:
        """The problems of a step, the same on every process."""
        optimisation = self.settings.optimisation
        pool = admitted(self.tasks, step, optimisation.steps, self.settings.curriculum)
        generator = np.random.default_rng(derive_seed(self.seed, "problems", step))
        again = pool < self.settings.batch
        return [self.tasks[i] for i in generator.choice(pool, self.settings.batch, replace=again)]

    def step(self, learner: Learner, number: int, rate: float) -> Facts:
        """Sample, reward, and update the policy."""
        tasks = self.drawn(number)[self.mine]
        seed = derive_seed(self.seed, "rollouts", number, self.world.rank)
        prompts, group = [t.prompt for t in tasks], self.settings.rollouts.group
        try:
            groups = self.sampler.sample(learner.engine.module, prompts, group, seed, self.world)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # Fewer answers at once would be other answers: another setting, which is not ours to choose.
            raise UserError(
                f"out of memory while sampling; lower rollouts.batch ({self.sampler.batch}, "
                f"useful down to rollouts.group, {group}) or rollouts.max_new_tokens"
            ) from error
        answers = [answer for group in groups for answer in group]
        owners = [task for task, group in zip(tasks, groups, strict=True) for _ in group]
        rewards, right = self.rewarded(owners, answers)
        table = torch.tensor(rewards).view(len(groups), -1)
        advantages = group_advantages(table, self.settings.scale_advantages).flatten()
        facts = self.learn_from(learner, answers, advantages, rate)
        mixed = float((table.amax(1) > table.amin(1)).float().mean())
        lengths = float(np.mean([len(a.tokens) for a in answers]))
        own = {
            "reward": float(table.mean()),
            "pass_rate": float(np.mean(right)),
            "mixed_groups": mixed,
            "answer_tokens": lengths,
            "cut_off": float(np.mean([not a.ended for a in answers])),
        }
        means = {k: self.world.total(v) / self.world.size for k, v in own.items()}
        return {"reward": means.pop("reward"), **facts, **means}

    def rewarded(self, tasks: Sequence[Task], answers: Sequence[Answer]) -> tuple[list[float], list[float]]:
        """Each answer's reward, and whether it is right."""
        texts = self.tokenizer.batch_decode([a.tokens for a in answers], skip_special_tokens=True)
        triples = list(zip(texts, tasks, answers, strict=True))
        rewards = [reward(text, t.problem.answer, a.ended, self.settings.rewards) for text, t, a in triples]
        return rewards, [score(text, t.problem.answer) for text, t, _ in triples]

    def learn_from(
        self, learner: Learner, answers: Sequence[Answer], advantages: torch.Tensor, rate: float
    ) -> Facts:
        """All passes over one batch of answers; what is returned is of the last pass."""
        # Answers of like length go through the model together: less of it is padding.
        order = sorted(range(len(answers)), key=lambda i: len(answers[i].tokens))
        chosen = [order[i : i + self.micro_batch] for i in range(0, len(order), self.micro_batch)]
        parts = [
            Part(
                Batch.of([answers[i] for i in rows], self.sampler.padding, self.world.device),
                advantages[rows].to(self.world.device),
            )
            for rows in chosen
        ]
        counted = self.world.total(sum(len(a.tokens) for a in answers))
        total = self.settings.batch * self.settings.rollouts.group
        facts: Facts = {}
        for again in range(self.settings.updates):
            chunks: list[Chunk] = [partial(self._loss, part, total, int(counted)) for part in parts]
            if again == 0:
                self._prepare(learner, parts)
            facts = learner.update(chunks, rate)
        kl = sum(part.kl for part in parts)
        return {**facts, "kl": self.world.total(kl) / max(counted, 1.0)}

    def _prepare(self, learner: Learner, parts: Sequence["Part"]) -> None:
        """What stays fixed over the passes: log-probabilities under the reference and the sampling policy."""
        with torch.no_grad():
            for part in parts:
                if self.reference is not None:
                    part.reference = self._logprobs(part.batch, self.reference)
                if self.settings.updates > 1:
                    part.sampled = self._logprobs(part.batch, learner.engine)

    def _logprobs(self, batch: Batch, model: Any) -> torch.Tensor:
        return logprobs_of(model, batch.tokens, self.settings.rollouts.temperature, **batch.inputs())

    def _loss(self, part: "Part", answers: int, tokens: int, model: Any) -> torch.Tensor:
        policy = self._logprobs(part.batch, model)
        mask = part.batch.answered
        # With one pass the policy that sampled is this one, before its update: the ratio is 1.
        sampled = policy.detach() if part.sampled is None else part.sampled
        if part.reference is not None:
            part.kl = float((kl_to_reference(policy.detach(), part.reference) * mask).sum())
        weights = self.objective.weights(mask, answers, tokens)
        return self.objective.loss(policy, sampled, part.reference, part.advantages, weights)


@dataclass
class Part:
    """Answers that go through the model at once, and what is known of their tokens."""

    batch: Batch
    advantages: torch.Tensor
    sampled: torch.Tensor | None = None
    reference: torch.Tensor | None = None
    kl: float = 0.0


if __name__ == "__main__":
    work(work_as(Rlvr, make))
