"""Judging a backbone by itself: does it solve held-out problems, and does it still know its language?

Pass rates are means over problems, each sampled several times; intervals come from resampling
problems. Against its base a backbone is compared on the same problems and texts, one by one, which is
far sharper than comparing two intervals.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from realign.artifacts.command import Job, UserError
from realign.backbones.corpus import Text, read_all_problems, read_texts
from realign.backbones.model import end_tokens, load_backbone
from realign.backbones.prompts import prompt_tokens
from realign.backbones.rollout import Answer, Sampler
from realign.engine.progress import Progress, follow
from realign.seeds import derive_seed
from realign.study.backbones import ScoreBackbone, ScoreJob
from realign.text.problems import Problem, has_format, score

Details = dict[str, dict[str, dict[str, Any]]]  # "problems" and "texts", each by id
SPLIT = "heldout"


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval and how many things it is about."""

    value: float
    low: float
    high: float
    n: int

    def through(self, function: Callable[[float], float]) -> "Estimate":
        """The same estimate on the scale of a rising function."""
        return Estimate(function(self.value), function(self.low), function(self.high), self.n)


def run(job: Job[ScoreJob]) -> None:
    """Score a backbone, and compare it with its base where it has one."""
    settings = job.settings
    torch.set_num_threads(job.threads)
    model, tokenizer = load_backbone(job.input("model"))
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    problems = chosen_problems(read_all_problems(job.input("problems"), least=2), settings)
    texts = chosen_texts(job.input("text"), settings)
    details: Details = {
        "problems": solve(model, tokenizer, problems, settings),
        "texts": read_aloud(model, tokenizer, texts, settings),
    }
    base: Details | None = None
    if given := job.inputs_of("base_details"):
        base = json.loads(given[0].read_text(encoding="utf-8"))
    size = float(sum(p.numel() for p in model.parameters()))
    rows = [
        ("parameters", "all", Estimate(size, size, size, 1)),
        *metrics(details, base, settings),
    ]
    write_metrics(rows, settings, job.output("metrics"))
    text = json.dumps(details, indent=0, ensure_ascii=False, sort_keys=True)
    job.output("details").write_text(text + "\n", encoding="utf-8")


def chosen_problems(problems: Sequence[Problem], settings: ScoreBackbone) -> list[Problem]:
    """The problems that are judged, spread evenly over tasks and levels; the same for every backbone."""
    kinds: dict[tuple[str, int], list[Problem]] = defaultdict(list)
    order = np.random.default_rng(derive_seed(settings.seed or 0, "score", "problems")).permutation(
        len(problems)
    )
    by_id = sorted(problems, key=lambda p: p.id)
    for i in order:
        kinds[by_id[i].task, by_id[i].difficulty].append(by_id[i])
    turns = [
        (turn, kind, problem) for kind, inside in sorted(kinds.items()) for turn, problem in enumerate(inside)
    ]
    return [problem for _, _, problem in sorted(turns, key=lambda t: t[:2])[: settings.problem_count]]


def chosen_texts(path: Path, settings: ScoreBackbone) -> list[Text]:
    """The held-out texts whose perplexity is measured; the same for every backbone."""
    kept = sorted((t for t in read_texts(path) if t.is_held_out(settings.held_out)), key=lambda t: t.id)
    if len(kept) < 2:
        raise UserError(f"{path}: {len(kept)} texts are held out at held_out={settings.held_out}; raise it")
    generator = np.random.default_rng(derive_seed(settings.seed or 0, "score", "texts"))
    return [kept[i] for i in generator.permutation(len(kept))[: settings.text_count]]


def solve(
    model: Any, tokenizer: Any, problems: Sequence[Problem], settings: ScoreBackbone
) -> dict[str, dict[str, Any]]:
    """Each problem's sampled and most likely answers, scored."""
    prompts = prompt_tokens(problems, tokenizer, settings.prompt)
    seed = derive_seed(settings.seed or 0, "score", "answers")
    found: dict[str, dict[str, Any]] = {}
    rounds = [("sampled", settings.samples, settings.temperature), ("greedy", 1, 0.0)]
    size = max(1, settings.batch // settings.samples)
    with Progress("solve problems", len(problems), "problems") as progress:
        for start in range(0, len(problems), size):
            part = problems[start : start + size]
            scored: dict[str, list[list[Answer]]] = {}
            for name, count, temperature in rounds[: 2 if settings.greedy else 1]:
                sampler = Sampler(
                    end_tokens(model, tokenizer), tokenizer.pad_token_id, settings.max_new_tokens,
                    temperature, settings.batch,
                )  # fmt: skip
                asked = prompts[start : start + size]
                scored[name] = sampler.sample(model, asked, count, derive_seed(seed, start))
            for i, problem in enumerate(part):
                found[problem.id] = _judged(problem, {k: v[i] for k, v in scored.items()}, tokenizer)
            progress.advance(len(part))
    return found


def _judged(problem: Problem, answers: Mapping[str, Sequence[Answer]], tokenizer: Any) -> dict[str, Any]:
    texts = {
        k: tokenizer.batch_decode([a.tokens for a in v], skip_special_tokens=True) for k, v in answers.items()
    }
    return {
        "task": problem.task,
        "difficulty": problem.difficulty,
        "passed": [score(text, problem.answer) for text in texts["sampled"]],
        "formatted": [float(has_format(text)) for text in texts["sampled"]],
        "length": [len(a.tokens) for a in answers["sampled"]],
        "first": texts["sampled"][0],
        **({"greedy": score(texts["greedy"][0], problem.answer)} if "greedy" in texts else {}),
    }


def read_aloud(
    model: Any, tokenizer: Any, texts: Sequence[Text], settings: ScoreBackbone
) -> dict[str, dict[str, Any]]:
    """How surprising each text is to the model: nats, tokens and bytes."""
    found: dict[str, dict[str, Any]] = {}
    device = next(model.parameters()).device
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    for text in follow(texts, "read texts", unit="texts"):
        whole = tokenizer(text.text, add_special_tokens=False, verbose=False)["input_ids"]
        ids = whole[: settings.text_tokens]
        if not ids:
            continue
        tokens = torch.tensor([[begin, *ids]], device=device)
        with torch.no_grad():
            logits = model(input_ids=tokens, use_cache=False).logits[0, :-1].float()
        nats = torch.nn.functional.cross_entropy(logits[1:], tokens[0, 2:], reduction="sum").item()
        # The first token is read from a mark that not every model knows, so it does not count.
        size = len(tokenizer.decode(ids[1:]).encode()) if len(ids) > 1 else 0
        found[text.id] = {"nats": nats, "tokens": len(ids) - 1, "bytes": size}
    return found


def metrics(
    details: Details, base: Details | None, settings: ScoreBackbone
) -> Iterator[tuple[str, str, Estimate]]:
    """Every number about a backbone as (metric, split, estimate)."""
    problems, texts = details["problems"], details["texts"]
    resample = Resampling(settings.resamples, settings.seed or 0)
    for split, inside in _splits(problems):
        for metric, column in (
            ("pass_rate", "passed"),
            ("format_rate", "formatted"),
            ("answer_tokens", "length"),
        ):
            yield metric, split, resample.mean([float(np.mean(p[column])) for p in inside.values()])
        if settings.greedy:
            yield "pass_rate_greedy", split, resample.mean([p["greedy"] for p in inside.values()])
        if base is not None:
            before = base["problems"]
            gains = [_gain(inside, before, i, "passed") for i in inside]
            yield "pass_rate_gain", split, resample.mean(gains)
            if settings.greedy:
                greedy = [_gain(inside, before, i, "greedy") for i in inside]
                yield "pass_rate_greedy_gain", split, resample.mean(greedy)
    nats, tokens, size = (np.array([t[k] for t in texts.values()]) for k in ("nats", "tokens", "bytes"))
    yield "perplexity", SPLIT, resample.ratio(nats, tokens).through(math.exp)
    yield "bits_per_byte", SPLIT, resample.ratio(nats / math.log(2), size)
    if base is not None:
        others = [_same_text(base, i) for i in texts]
        before_nats, before_tokens = (np.array([o[k] for o in others]) for k in ("nats", "tokens"))
        if np.array_equal(before_tokens, tokens):  # perplexities compare only over the same tokens
            yield "perplexity_ratio", SPLIT, resample.ratio(nats - before_nats, tokens).through(math.exp)


def _splits(problems: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, Mapping[str, dict[str, Any]]]]:
    """Each task by itself, and last all held-out problems together."""
    for task in sorted({p["task"] for p in problems.values()}):
        yield f"{SPLIT}/{task}", {i: p for i, p in problems.items() if p["task"] == task}
    yield SPLIT, problems


def _gain(after: Mapping[str, Any], before: Mapping[str, Any], problem: str, column: str) -> float:
    if problem not in before:
        raise UserError(f"problem '{problem}' was not put to the base; score both on the same problems")
    return float(np.mean(after[problem][column]) - np.mean(before[problem][column]))


def _same_text(base: Details, text: str) -> dict[str, Any]:
    if text not in base["texts"]:
        raise UserError(f"text '{text}' was not read by the base; score both on the same texts")
    return base["texts"][text]


class Resampling:
    """Percentile intervals from resampling what was measured, always with the same draws for a size."""

    def __init__(self, times: int, seed: int):
        self.times, self.seed = times, seed

    def _weights(self, n: int) -> np.ndarray:
        generator = np.random.default_rng(derive_seed(self.seed, "score", "resampling", n))
        return generator.multinomial(n, np.full(n, 1 / n), size=self.times)

    def mean(self, values: Sequence[float]) -> Estimate:
        """The mean over problems."""
        return self.ratio(np.asarray(values, float), np.ones(len(values)))

    def ratio(self, above: np.ndarray, below: np.ndarray) -> Estimate:
        """The ratio of two sums over the same things."""
        weights = self._weights(len(above))
        drawn = (weights @ above) / np.maximum(weights @ below, 1e-300)
        low, high = np.quantile(drawn, (0.025, 0.975))
        return Estimate(float(above.sum() / below.sum()), float(low), float(high), len(above))


def write_metrics(rows: Sequence[tuple[str, str, Estimate]], settings: ScoreJob, path: Path) -> None:
    """The tidy results of one backbone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(
        [
            {
                "study": settings.study,
                "backbone": settings.backbone,
                "kind": settings.kind,
                "base": settings.base,
                "metric": metric,
                "split": split,
                "value": e.value,
                "ci_low": e.low,
                "ci_high": e.high,
                "n": e.n,
            }
            for metric, split, e in rows
        ]
    )
    pq.write_table(table, path)
