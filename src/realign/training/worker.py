"""The contrastive training, as it runs on every process. `Training.train_step` is one step of it."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from realign.artifacts.command import UserError
from realign.embedder.attention import assert_attention
from realign.engine.checkpoints import seed_everything
from realign.engine.deepspeed_setup import (
    build_config,
    divided,
    initialize_adamw,
    parameter_tensors,
    set_learning_rate,
    trainable,
    whole_shape,
)
from realign.engine.devices import precision_on
from realign.engine.distributed import World, joined
from realign.engine.launch import notice_path
from realign.engine.loop import Loop, learning_rate, stop_unless_finite, warmup_steps
from realign.engine.signals import Leaving
from realign.engine.steplog import StepLog
from realign.engine.worker import work
from realign.seeds import derive_seed
from realign.study.recipe import Train
from realign.training.data import TrainingData
from realign.training.guide import Guide
from realign.training.index import Source, read_sources
from realign.training.log import TrainingLog
from realign.training.near import brought_near
from realign.training.safety import SafetyChecks
from realign.training.step import ContrastiveStep, LocalBatch, evaluating
from realign.training.validation import Validation
from realign.training.weights import load_for_training, write_embedder


class Training:
    """One contrastive training on this process."""

    def __init__(self, spec: Mapping[str, Any], world: World, sources: Sequence[Source], leaving: Leaving):
        self.spec, self.world = spec, world
        self.order = Train.model_validate(spec["order"])
        self.recipe = self.order.recipe
        self.scratch, self.backbone = Path(spec["scratch"]), Path(spec["backbone"])
        self.precision = precision_on(world.device, self.recipe.precision)
        self.seed = derive_seed(self.order.study_seed, "train", self.order.seed)
        hardware = self.recipe.hardware
        with divided(self._config()):
            embedder = load_for_training(self.backbone, self.order, world.device)
        parameters = sum(whole_shape(p).numel() for p in trainable(embedder).values())
        # Memory has run out before where the budget is no longer the recipe's.
        short = int(spec["token_budget"]) < hardware.token_budget
        reduce_once = self._reduce_once(parameters, short)
        guide = Guide(Path(spec["guide"]), world.device, self.precision) if spec["guide"] else None
        self.data = TrainingData(sources, self.order, self.seed, embedder.tokenizer, guide)
        self.steps = self.data.schedule.steps
        self.batch_order = self.data.order()
        self._check_settings(embedder.width)
        self.loop = Loop(
            "train", self.steps, hardware.save_every, hardware.save_minutes, self.scratch, world, leaving
        )
        saved = self.loop.saved
        if saved and saved.state["order"] != self.batch_order:  # though its work has the same key
            raise UserError(f"{saved.folder}: its batches are not this training's; delete it to start anew")
        optimizer = self.recipe.optimizer
        self.engine = initialize_adamw(
            embedder,
            optimizer.weight_decay,
            self._config(parameters, reduce_once),
            saved,
            lr=optimizer.learning_rate,
            betas=optimizer.betas,
            eps=optimizer.epsilon,
        )
        with evaluating(self.engine):
            assert_attention(embedder.model, self.order.embedder.attention, self.backbone, embedder.packed)
        self.step = ContrastiveStep(
            self.engine,
            world,
            self.recipe.loss,
            int(spec["token_budget"]),
            reduce_once,
            optimizer.gradient_scale,
            0 if short else hardware.kept_tokens,
        )
        self.validation = (
            Validation(self.data, self.step, world, self.recipe.loss) if self.data.held_out else None
        )
        self.safety = SafetyChecks(self.recipe.safety, world, warmup_steps(optimizer, self.steps))
        self.scores: dict[str, float] = dict(saved.state["scores"]) if saved else {}

    def _check_settings(self, width: int) -> None:
        if beyond := [step for step in self.recipe.checkpoints if step > self.steps]:
            raise UserError(f"checkpoints {beyond} lie beyond the last step, {self.steps}")
        for loss in (self.recipe.loss, *self.recipe.dataset_losses.values()):
            if wide := [w for w in loss.matryoshka if not 0 < w <= width]:
                raise UserError(f"loss.matryoshka: {wide} are no widths of vectors with {width} dimensions")

    def _reduce_once(self, parameters: int, short: bool) -> bool:
        """Whether gradients are reduced once a step; the same answer on all processes.

        A lone process has nobody to reduce with, and ZeRO's own buffer adds up its chunks in fp32.
        """
        asked = self.recipe.hardware.reduce_once
        if asked != "auto":
            return asked
        device = self.world.device
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
        tight = free < 4 * 4 * parameters
        return self.world.size > 1 and not self.world.any(short or tight)

    def _config(self, parameters: int = 1, reduce_once: bool = False) -> dict[str, Any]:
        return build_config(
            self.recipe.hardware.zero_stage,
            self.precision,
            self.world.size,
            parameters,
            self.recipe.optimizer.clip,
            self.spec.get("deepspeed"),
            reduce_once,
        )

    def run(self) -> None:
        """All steps that are left; afterwards the embedder lies in the scratch folder."""
        recipe, loop = self.recipe, self.loop
        with (
            contextlib.closing(self._open_log()) as log,
            ThreadPoolExecutor(1) as ahead,
            contextlib.closing(loop.steps_left()) as steps_left,
        ):
            if loop.start == 0:
                log.write(0, batch_order=self.batch_order, data=self.data.counts(), precision=self.precision)
                self._validate(0, log)
            # A step's batch is read and tokenised while the step before it is computed.
            coming = ahead.submit(self.data.batch, min(loop.start, self.steps - 1), self.world)
            for step in steps_left:
                batch, number = coming.result()
                coming = ahead.submit(self.data.batch, min(step + 1, self.steps - 1), self.world)
                facts = self.train_step(step, batch, number)
                done = step + 1
                log.write(done, **{name: value for name, value in facts.items() if value is not None})
                if done % recipe.validation.every == 0 or done == self.steps:
                    self._validate(done, log)
                if done % recipe.safety.compare_every == 0:
                    self.safety.compare_parameters(done, self.engine.module)
                if declared := done in recipe.checkpoints:
                    self._write(self.scratch / "kept" / f"step{done}", done)
                loop.end_step(
                    done,
                    self.engine,
                    {"order": self.batch_order, "scores": self.scores, "processes": self.world.size},
                    {
                        "loss": facts["loss"],
                        "tokens/s": facts["tokens_per_second"],
                        "padding": facts["padding_share"],
                        "GB": facts.get("reserved_gb", facts["memory_gb"]),
                    },
                    save=declared,
                )
            self._write(self.scratch / "model", self.steps)

    def train_step(self, step: int, batch: LocalBatch, number: int) -> dict[str, Any]:
        """One step on this process's part of a batch, which all processes know by the same `number`."""
        started, world = time.perf_counter(), self.world
        seed_everything(derive_seed(self.seed, "step", step, world.rank))
        rate = learning_rate(self.recipe.optimizer, step, self.steps)
        set_learning_rate(self.engine, rate)
        facts = self.step(batch)
        # One collective for all that processes compare or add up; fp64 holds each of these numbers whole.
        row = [facts.loss, number, facts.tokens, facts.padded]
        ours = torch.tensor([row], dtype=torch.float64, device=world.device)
        losses, batches, tokens, padded = world.gather_rows(ours, [1] * world.size).T.tolist()
        self.safety.check_step(step, losses, batches, facts.mean_cosine)
        self.engine.step()
        norm = self.engine.get_global_grad_norm()
        norm = None if norm is None else float(norm)
        stop_unless_finite(step, "gradient's norm", norm)
        seconds = time.perf_counter() - started
        return {
            "loss": facts.loss,
            "accuracy": facts.accuracy,
            "mean_cosine": facts.mean_cosine,
            "masked": facts.masked,
            "learning_rate": rate,
            "gradient_norm": norm,
            "chunks": facts.chunks,
            "tokens": sum(tokens),
            "padding_share": 1 - sum(tokens) / sum(padded),
            "seconds": seconds,
            "tokens_per_second": sum(tokens) / seconds,
            **memory_gb(world.device),
        }

    def _validate(self, done: int, log: StepLog) -> None:
        if self.validation is None:
            return
        self.scores = self.validation.scores(self.engine)
        log.write(done, **self.scores)
        stop_unless_finite(done, "loss of the held-out set", self.scores["val_loss"])

    def _write(self, folder: Path, done: int) -> None:
        """Write the embedder as it is; the first process does, and all must call it together."""
        parameters = parameter_tensors(self.engine)
        if self.world.is_main:
            self._write_here(folder, done, parameters)
        self.world.wait()

    def _write_here(self, folder: Path, done: int, parameters: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in parameters.items():
            stop_unless_finite(done, f"sum of {name}", float(tensor.sum()))
        facts = {
            "step": done,
            "data": self.data.counts(),
            "order": self.batch_order,
            "scores": self.scores,
            "precision": self.precision,
        }
        write_embedder(folder, self.backbone, self.order, parameters, self.data.instructions(), facts)

    def _open_log(self) -> StepLog:
        """The log, which the first process alone writes."""
        if not self.world.is_main:
            return StepLog(None)
        order = self.order
        return TrainingLog(
            self.scratch / "log.jsonl",
            self.scratch / "tensorboard",
            self.recipe.hardware.wandb_project,
            f"{order.study}-{order.backbone_name}+{order.recipe_name}+s{order.seed}",
            self.scratch.parent.name,
            self.loop.start,
        )


def memory_gb(device: torch.device) -> dict[str, float]:
    """The most memory this process has held: of the GPU, or of the machine.

    What the allocator has reserved of a GPU is more than what tensors fill, by its gaps, and it is what a
    GPU runs out of.
    """
    if device.type == "cuda":
        return {
            "memory_gb": torch.cuda.max_memory_allocated(device) / 2**30,
            "reserved_gb": torch.cuda.max_memory_reserved(device) / 2**30,
        }
    import resource

    return {"memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


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
        Training(spec, world, sources, leaving).run()


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
