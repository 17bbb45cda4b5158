"""What the planned trainings need of their GPUs' memory, beside what these have."""

import json
from collections.abc import Iterable
from pathlib import Path

from realign.plan.memory import Need, Shape, training_need, ways_out
from realign.runs.dag import PlannedJob
from realign.study.study import Study

HEAD = "GPU memory of trainings (estimated, give or take a quarter)"


def memory_lines(study: Study, jobs: Iterable[PlannedJob]) -> list[str]:
    """A line for each backbone and recipe that GPUs will train, once the backbone is there to look at."""
    named = [job.wildcards for job in jobs if job.rule == "train" and "recipe" in job.wildcards]
    trained = sorted({(names["backbone"], names["recipe"]) for names in named})
    lines = [line for backbone, recipe in trained for line in _lines(study, backbone, recipe)]
    return [HEAD, *lines] if lines else []


def _lines(study: Study, backbone: str, recipe: str) -> list[str]:
    asked = study.resources.of("train", backbone)
    if not asked.gpus:
        return []
    name = f"  {backbone}+{recipe}:"
    config = Path("results") / study.study.name / "backbones" / backbone / "model" / "config.json"
    if not config.is_file():
        return [f"{name} known once the backbone is there"]
    shape = _shape(config)
    if shape is None:
        return [f"{name} no estimate for a model of this kind"]
    processes = asked.gpus * (asked.nodes or 1)
    made = study.recipes[recipe]
    need = training_need(shape, made, processes, 4 if made.precision == "fp32" else 2)
    room = asked.gpu_memory_gb
    of = f"{need.total:.0f} of {room:.0f} GB" if room else f"{need.total:.0f} GB"
    lines = [f"{name} {of} on each of {processes} GPUs ({_parts(need)})"]
    if room and need.total > room:
        ways = ways_out(shape, made, processes, room)
        advice = " or ".join(f"recipes.{recipe}.hardware.{{{way}}}" for way in ways) or "more or larger GPUs"
        lines.append(f"    may not fit; try {advice}")
    return lines


def _parts(need: Need) -> str:
    names = ("weights", "optimizer", "gradients", "activations")
    return ", ".join(f"{name} {getattr(need, name):.1f}" for name in names)


def _shape(config: Path) -> Shape | None:
    """The shape of a backbone that is there and is a decoder of the usual kind."""
    try:
        return Shape.of(json.loads(config.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
