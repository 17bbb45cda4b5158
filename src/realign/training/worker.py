"""The training loop, as it runs on every process.

A step is a function of its number: the batch, the draws, the learning rate and the random state all
follow from seeds and the step. What a checkpoint has to hold is therefore only what steps change,
parameters and optimizer states, and a training that goes on from one is the training that was
never stopped, on however many processes it goes on.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from realign.artifacts.command import Interrupted, UserError
from realign.embedder.attention import assert_attention
from realign.engine.checkpoints import Checkpoint, Checkpoints, seed_everything
from realign.engine.deepspeed_setup import (
    build_config,
    decay_groups,
    divided,
    initialize,
    parameter_tensors,
    restore_optimizer,
    restore_parameters,
    trainable,
    training_tensors,
    whole_shape,
)
from realign.engine.distributed import World, joined
from realign.engine.launch import notice_path
from realign.engine.progress import Progress
from realign.engine.signals import Leaving
from realign.engine.worker import work
from realign.seeds import derive_seed
from realign.study.recipe import Train
from realign.training.data import TrainingData
from realign.training.guard import Guard
from realign.training.index import Source, read_sources
from realign.training.journal import Journal
from realign.training.near import brought_near
from realign.training.schedule import learning_rate, warmup_steps
from realign.training.step import ContrastiveStep, LocalBatch, StepFacts, evaluating
from realign.training.validation import Validation
from realign.training.weights import load_for_training, parameters_only, precision_of, write_embedder

log = logging.getLogger("realign.training.worker")  # run as a module, its name is __main__


class Training:
    """One contrastive training on this process."""

    def __init__(self, spec: Mapping[str, Any], world: World, sources: Sequence[Source]):
        self.spec, self.world = spec, world
        self.order = Train.model_validate(spec["order"])
        self.recipe = self.order.recipe
        self.scratch, self.backbone = Path(spec["scratch"]), Path(spec["backbone"])
        self.precision = precision_of(self.recipe, world.device)
        self.seed = derive_seed(self.order.study_seed, "train", self.order.seed)
        with divided(self._config()):
            embedder = load_for_training(self.backbone, self.order, world.device)
        self.parameters = sum(whole_shape(p).numel() for p in trainable(embedder).values())
        # Memory has run out before where the budget is no longer the recipe's.
        self.short = int(spec["token_budget"]) < self.recipe.hardware.token_budget
        self.reduce_once = self._reduce_once()
        self.data = TrainingData(sources, self.order, self.seed, embedder.tokenizer)
        self.steps = self.data.schedule.steps
        self.batch_order = self.data.order()
        self._check_settings(embedder.width)
        self.checkpoints = Checkpoints(self.scratch / "checkpoints")
        found = self._found()
        self.engine = self._engine(embedder, found)
        self.start = found.step if found else 0
        hardware = self.recipe.hardware
        self.step = ContrastiveStep(
            self.engine,
            world,
            self.recipe.loss,
            int(spec["token_budget"]),
            self.reduce_once,
            self.recipe.optimizer.gradient_scale,
            0 if self.short else hardware.kept_tokens,
        )
        self.validation = (
            Validation(self.data, self.step, world, self.recipe.loss) if self.data.held_out else None
        )
        self.guard = Guard(self.recipe.safety, world, warmup_steps(self.recipe.optimizer, self.steps))
        self.scores: dict[str, float] = dict(found.state["scores"]) if found else {}

    def _check_settings(self, width: int) -> None:
        if beyond := [step for step in self.recipe.checkpoints if step > self.steps]:
            raise UserError(f"checkpoints {beyond} lie beyond the last step, {self.steps}")
        if wide := [w for w in self.recipe.loss.matryoshka if not 0 < w <= width]:
            raise UserError(f"loss.matryoshka: {wide} are no widths of vectors with {width} dimensions")

    def _found(self) -> Checkpoint | None:
        """The checkpoint to go on from; one of other batches is an error, since its key was the same.

        The first process alone reads all of it to check it, and tells the others which one it is.
        """
        step, *_ = self.world.gather_objects(self._newest() if self.world.is_main else None)
        found = None if step is None else self.checkpoints.at(step)
        if self.world.any(step is not None and found is None):
            raise UserError(f"{self.checkpoints.folder}: not all processes see the checkpoint of step {step}")
        if found and found.state["order"] != self.batch_order:
            raise UserError(f"{found.folder}: its batches are not this training's; delete it to start anew")
        return found

    def _newest(self) -> int | None:
        newest = self.checkpoints.latest()
        return newest.step if newest else None

    def _engine(self, embedder: Any, found: Checkpoint | None) -> Any:
        tensors = found.tensors() if found else {}
        if found:
            restore_parameters(embedder, tensors)
        optimizer = self.recipe.optimizer
        engine = initialize(
            embedder,
            decay_groups(embedder, optimizer.weight_decay),
            lambda groups: torch.optim.AdamW(
                groups, lr=optimizer.learning_rate, betas=optimizer.betas, eps=optimizer.epsilon
            ),
            self._config(self.parameters, self.reduce_once),
        )
        if found:
            restore_optimizer(engine, tensors, found.state["optimizer"])
        with evaluating(engine):
            assert_attention(embedder.model, self.order.embedder.attention, self.backbone)
        return engine

    def _reduce_once(self) -> bool:
        """Whether gradients are reduced once a step; the same answer on all processes.

        A lone process has nobody to reduce with, and ZeRO's own buffer adds up its chunks in fp32.
        """
        asked = self.recipe.hardware.reduce_once
        if asked != "auto":
            return asked
        device = self.world.device
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
        tight = free < 4 * 4 * self.parameters
        return self.world.size > 1 and not self.world.any(self.short or tight)

    def _config(self, parameters: int = 1, reduce_once: bool = False) -> dict[str, Any]:
        return build_config(
            self.recipe.hardware.zero_stage,
            "bf16" if self.precision == "bf16" else "fp32",
            self.world.size,
            parameters,
            self.recipe.optimizer.clip,
            self.spec.get("deepspeed"),
            reduce_once,
        )

    def run(self, leaving: Leaving) -> None:
        """All steps that are left; afterwards the embedder lies in the scratch folder."""
        with self._journal() as journal:
            self._steps(leaving, journal)
        self.world.wait()

    def _steps(self, leaving: Leaving, journal: Journal | None) -> None:
        if self.start == 0:
            self._validate(0, journal)
        told_every = 15.0 if self.world.is_main else float("inf")
        with (
            ThreadPoolExecutor(1) as ahead,
            Progress("train", self.steps, "steps", told_every, self.start) as progress,
        ):
            coming = self._prepare(ahead, self.start)
            for step in range(self.start, self.steps):
                batch, number = coming.result()
                coming = self._prepare(ahead, step + 1)
                facts = self._one_step(step, batch, number, leaving)
                done = step + 1
                self._after(done, facts, journal)
                progress.advance(1, **_shown(facts))
                if facts["asked"] and done < self.steps:
                    self._leave(done)
        tensors = parameter_tensors(self.engine)
        if self.world.is_main:
            self._write(self.scratch / "model", self.steps, tensors)

    def _prepare(self, ahead: ThreadPoolExecutor, step: int) -> "Future[tuple[LocalBatch, int]]":
        """A step's batch, read and tokenised while the step before it is computed."""
        return ahead.submit(self.data.batch, min(step, self.steps - 1), self.world)

    def _one_step(self, step: int, batch: LocalBatch, number: int, leaving: Leaving) -> dict[str, Any]:
        started = time.perf_counter()
        seed_everything(derive_seed(self.seed, "step", step, self.world.rank))
        rate = learning_rate(self.recipe.optimizer, step, self.steps)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        facts = self.step(batch)
        told = self._told(facts, number, leaving)
        self.guard.check(step, told, facts.mean_cosine)
        self.engine.step()
        norm = _number(self.engine.get_global_grad_norm())
        self.guard.check_result(step, "gradient's norm", norm)
        seconds = time.perf_counter() - started
        tokens, padded = float(told[:, 2].sum()), float(told[:, 3].sum())
        return {
            "loss": facts.loss,
            "accuracy": facts.accuracy,
            "mean_cosine": facts.mean_cosine,
            "masked": facts.masked,
            "learning_rate": rate,
            "gradient_norm": norm,
            "chunks": facts.chunks,
            "tokens": tokens,
            "padding_share": 1 - tokens / padded,
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
            "memory_gb": memory_gb(self.world.device),
            "asked": bool(told[:, 4].any()),
        }

    def _told(self, facts: StepFacts, number: int, leaving: Leaving) -> torch.Tensor:
        """What every process has to tell of the step, a row for each."""
        row = [facts.loss, number, facts.tokens, facts.padded, float(leaving.asked)]
        mine = torch.tensor([row], dtype=torch.float64, device=self.world.device)
        return self.world.gather_rows(mine, [1] * self.world.size).cpu()

    def _after(self, done: int, facts: Mapping[str, Any], journal: Journal | None) -> None:
        """What follows a step: its record, scores, a declared checkpoint, one to resume from."""
        if journal:
            journal.write(done, **{k: v for k, v in facts.items() if k != "asked" and v is not None})
        if done % self.recipe.validation.every == 0 or done == self.steps:
            self._validate(done, journal)
        if done % self.recipe.safety.compare_every == 0:
            self.guard.compare_parameters(done, self.engine.module)
        declared = done in self.recipe.checkpoints
        if declared or (done % self.recipe.hardware.save_every == 0 and done < self.steps):
            tensors, state = training_tensors(self.engine)
            if declared and self.world.is_main:
                self._write(self.scratch / "kept" / f"step{done}", done, tensors)
            self._save(done, tensors, state)

    def _validate(self, done: int, journal: Journal | None) -> None:
        if self.validation is None:
            return
        self.scores = self.validation.scores(self.engine)
        if journal:
            journal.write(done, **self.scores)
        self.guard.check_result(done, "loss of the held-out set", self.scores["val_loss"])

    def _leave(self, done: int) -> None:
        self._save(done, *training_tensors(self.engine))
        raise Interrupted(f"saved at step {done} of {self.steps}; run it again to continue")

    def _save(self, done: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        if self.world.is_main:
            facts = {"order": self.batch_order, "optimizer": state, "scores": self.scores}
            self.checkpoints.save(done, tensors, {**facts, "processes": self.world.size})
        self.world.wait()

    def _write(self, folder: Path, done: int, tensors: Mapping[str, torch.Tensor]) -> None:
        facts = {
            "step": done,
            "data": self.data.counts(),
            "order": self.batch_order,
            "scores": self.scores,
            "precision": self.precision,
        }
        parameters = parameters_only(tensors)
        for name, tensor in parameters.items():
            self.guard.check_result(done, f"sum of {name}", float(tensor.sum()))
        write_embedder(folder, self.backbone, self.order, parameters, self.data.instructions(), facts)

    @contextlib.contextmanager
    def _journal(self) -> Iterator[Journal | None]:
        """The record, on the first process; whole also when the training leaves or stops."""
        if not self.world.is_main:
            yield None
            return
        journal = Journal(
            self.scratch / "log.jsonl",
            self.scratch / "tensorboard",
            self.recipe.hardware.wandb_project,
            f"{self.order.study}-{self.order.backbone_name}+{self.order.recipe_name}+s{self.order.seed}",
            self.scratch.parent.name,
            self.start,
        )
        if self.start:
            log.info("going on from step %d of %d", self.start, self.steps)
        else:
            journal.write(0, batch_order=self.batch_order, data=self.data.counts())
        with contextlib.closing(journal):
            yield journal


def _shown(facts: Mapping[str, Any]) -> dict[str, Any]:
    shown = {"loss": "loss", "tokens/s": "tokens_per_second", "padding": "padding_share", "GB": "memory_gb"}
    return {name: facts[key] for name, key in shown.items()}


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def memory_gb(device: torch.device) -> float:
    """The most memory this process has held: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(spec: Mapping[str, Any], path: Path) -> None:
    """Train, as a launched process."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    scratch = Path(spec["scratch"])
    local = Train.model_validate(spec["order"]).recipe.hardware.local_data
    with (
        Leaving(notice_path(path)) as leaving,
        joined() as world,
        _alone(scratch, world),
        brought_near(read_sources(spec["sources"]), local, scratch.parent.name, world) as sources,
    ):
        Training(spec, world, sources).run(leaving)


@contextlib.contextmanager
def _alone(scratch: Path, world: World) -> Iterator[None]:
    """Wait until a worker of an earlier attempt, which may still be saving, is gone."""
    with (scratch / "worker.lock").open("a+") as stream:
        if world.is_main:
            fcntl.lockf(stream, fcntl.LOCK_EX)
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
        world.wait()
        yield


if __name__ == "__main__":
    work(main)
