"""What the planned trainings need of their GPUs' memory, beside what these have."""

import contextlib
import json
import math
from collections.abc import Iterable
from pathlib import Path

from realign.plan.memory import Need, Shape, faster_ways, training_need, ways_out
from realign.runs.dag import PlannedJob
from realign.study.recipe import Recipe
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
    config = _backbone(study, backbone) / "config.json"
    made = study.recipes[recipe]
    guide = _guide(study, made)
    if not config.is_file() or (guide and not guide.is_dir()):
        return [f"{name} known once the backbone {'and the guide model are' if guide else 'is'} there"]
    shape = _shape(config)
    if shape is None:
        return [f"{name} no estimate for a model of this kind"]
    processes, room = asked.gpus * (asked.nodes or 1), asked.gpu_memory_gb
    besides = _parameters(guide) if guide else 0
    need = training_need(shape, made, processes, besides)
    of = f"{need.total:.0f} of {room:.0f} GB" if room else f"{need.total:.0f} GB"
    lines = [f"{name} {of} on each of {processes} GPUs ({_parts(need)})"]
    if room and need.total > room:
        ways = ways_out(shape, made, processes, room, besides)
        lines.append(f"    may not fit; try {_advice(recipe, ways) or 'more or larger GPUs'}")
    elif room and (ways := faster_ways(shape, made, processes, room, besides)):
        lines.append(f"    has room to compute less twice: {_advice(recipe, ways)}")
    return lines


def _advice(recipe: str, ways: list[str]) -> str:
    return " or ".join(f"recipes.{recipe}.hardware.{{{way}}}" for way in ways)


def _parts(need: Need) -> str:
    names = ("weights", "optimizer", "gradients", "activations", *(["guide"] if need.guide else []))
    return ", ".join(f"{name} {getattr(need, name):.1f}" for name in names)


def _backbone(study: Study, name: str) -> Path:
    return Path("results") / study.study.name / "backbones" / name / "model"


def _guide(study: Study, recipe: Recipe) -> Path | None:
    """The folder of the recipe's guide model, if it has one."""
    model = recipe.guide_model
    return _backbone(study, model.backbone) if model.backbone else Path(model.path) if model.path else None


def _parameters(folder: Path) -> int:
    """The numbers in a model's weight files, by their headers; an unreadable file adds none."""
    from safetensors import SafetensorError, safe_open

    count = 0
    for file in folder.rglob("*.safetensors"):
        with contextlib.suppress(SafetensorError), safe_open(file, "numpy") as weights:
            count += sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    return count


def _shape(config: Path) -> Shape | None:
    """The shape of a backbone that is there and is a decoder of the usual kind."""
    try:
        return Shape.of(json.loads(config.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
