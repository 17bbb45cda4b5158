"""GRPO at toy size: this package's loop beside trl's GRPOTrainer, same model, problems and batch.

    python bench/rlvr_trl.py --model results/tiny/backbones/base/model \
        --problems results/tiny/text/problems/train.jsonl --steps 10

Prints seconds a step (median, the first step left out) and their ratio, taken in one run so that a
busy machine slows both. trl is no dependency of the package: `pip install trl` to run this.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from realign.backbones.layout import load_tokenizer
from realign.backbones.rewards import reward
from realign.study.backbones import Rewards, Rlvr
from realign.text.problems import read_problems


def ours(arguments: argparse.Namespace) -> list[float]:
    """Seconds of each step of the package's own command."""
    from realign.artifacts.command import execute
    from realign.artifacts.store import WorkStore
    from realign.backbones.commands import RLVR

    settings = Rlvr.model_validate(
        {
            "optimisation": {"steps": arguments.steps, "precision": "fp32"},
            "batch": arguments.prompts,
            "rollouts": {"group": arguments.group, "max_new_tokens": arguments.tokens},
            "curriculum": 0.0,
            "hardware": {"micro_batch": arguments.prompts * arguments.group, "checkpoint_every": 10**6},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        outputs = {name: place / name for name in RLVR.outputs}
        inputs = {"base": arguments.model, "problems": arguments.problems}
        execute(RLVR, settings, inputs, outputs, WorkStore(place / "store"), arguments.threads)
        lines = [json.loads(line) for line in outputs["history"].read_text().splitlines()]
    print("ours: rewards", [round(line["reward"], 3) for line in lines])
    return [line["seconds"] for line in lines]


def theirs(arguments: argparse.Namespace) -> list[float]:
    """Seconds of each step of trl's trainer."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    problems = list(read_problems(arguments.problems))
    data = Dataset.from_list([{"prompt": p.prompt, "answer": p.answer} for p in problems])
    ends, rewards = [], Rewards()

    def earned(completions: list[str], answer: list[str], **_: object) -> list[float]:
        return [reward(c, a, True, rewards) for c, a in zip(completions, answer, strict=True)]

    class Clock(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            ends.append(time.monotonic())

    tokenizer = load_tokenizer(arguments.model)
    tokenizer.padding_side = "left"
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32),
            [earned],
            args=GRPOConfig(
                folder,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                per_device_train_batch_size=arguments.prompts * arguments.group,
                num_generations=arguments.group,
                max_completion_length=arguments.tokens,
                max_steps=arguments.steps,
                learning_rate=1e-4,
                lr_scheduler_type="constant",
                beta=0.01,
                loss_type="grpo",
                temperature=1.0,
                report_to=[],
                save_strategy="no",
                logging_steps=1,
                disable_tqdm=True,
            ),
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        started = time.monotonic()
        trainer.train()
    print("trl: rewards", [round(e["reward"], 3) for e in trainer.state.log_history if "reward" in e])
    return [b - a for a, b in zip([started, *ends], ends, strict=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    steps = {"ours": ours(arguments)[1:], "trl": theirs(arguments)[1:]}
    for name, seconds in steps.items():
        print(f"{name}: median {statistics.median(seconds):.2f} s a step (fastest {min(seconds):.2f})")
    ratio = statistics.median(steps["trl"]) / statistics.median(steps["ours"])
    print(
        f"trl takes {ratio:.2f} times as long (fastest steps: {min(steps['trl']) / min(steps['ours']):.2f})"
    )


if __name__ == "__main__":
    main()
