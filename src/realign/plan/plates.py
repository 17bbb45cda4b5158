"""From a study's description to the jobs that draw it: what each plate reads and is asked to show.

The workflow and `realign figures` plan with the same functions, the one before any result exists
and the other from an archive.
"""

from collections.abc import Iterable

from realign.measures.families import FAMILIES
from realign.names import EmbedderId, is_embedder
from realign.plates.catalogue import PLATES
from realign.plates.plate import Needs, Plate
from realign.study.claims import LITERATURE_CLAIMS, PAPER_CLAIMS, PAPER_TENSIONS
from realign.study.description import Description, PairEntry, Part
from realign.study.drawing import DrawPlate, JudgeClaims, PlateText, WriteReport
from realign.study.figures import Style, View
from realign.study.kinds import is_control
from realign.study.series import SeriesEntry


def _known(description: Description, names: Iterable[str]) -> list[str]:
    return [n for n in description.corpora if n in set(names)] + sorted(set(names) - set(description.corpora))


def resolve_view(description: Description, view: View) -> View:
    """The view with every choice that was left to the study made."""
    pairs = [p for p in description.pairs if (p.name in view.pairs if view.pairs else not p.path)]
    compared = [p for p in pairs if not is_control(p.kind)]

    def main(kind: str) -> str:
        found = [p for p in compared if p.kind == kind]
        found.sort(key=lambda p: (not p.embed, kind == "rlvr" and "prolonged" not in p.tags))
        return found[0].name if found else ""

    return view.model_copy(
        update={
            "pairs": tuple(p.name for p in compared),
            "main_sft": view.main_sft or main("sft"),
            "main_rlvr": view.main_rlvr or main("rlvr"),
            "corpora": view.corpora or _measured_corpora(description),
            "recipe": view.recipe or next(iter(description.recipes), ""),
        }
    )


def _measured_corpora(description: Description) -> tuple[str, ...]:
    """The corpora that drawings of measures are about; those of probes where there is nothing else."""
    found = {(_is_of_labels(p), p.corpus) for p in description.parts_of("measures") if p.corpus}
    measured = {corpus for of_labels, corpus in found if not of_labels}
    return tuple(_known(description, measured or {corpus for _, corpus in found}))


def _is_of_labels(part: Part) -> bool:
    """Whether measures are of labelled texts, which need not be those that all other measures are of."""
    return FAMILIES[part.family].reads == "pooled"


def _shown(description: Description, plate: Plate, view: View) -> tuple[PairEntry, ...]:
    if plate.pairs == "series":
        return tuple(p for p in description.pairs if _series_with(description, p))
    wanted = {"main": (view.main_sft, view.main_rlvr), "none": ()}.get(plate.pairs, view.pairs)
    pairs = tuple(p for p in description.pairs if p.name in wanted)
    return tuple(p for p in pairs if p.embed) if plate.stage == "embedder" else pairs


def _series_with(description: Description, pair: PairEntry) -> list[SeriesEntry]:
    """The series that both sides of a pair stand on."""
    return [s for s in description.series if {pair.left, pair.right} <= {name for name, _ in s.places}]


def _labels(description: Description, pairs: Iterable[PairEntry], view: View) -> dict[str, str]:
    names = {n for p in pairs for n in (p.left, p.right)}
    told = {n: str(description.backbones.get(n, {}).get("label") or n) for n in sorted(names)}
    told |= {c: str(description.corpora.get(c, {}).get("label") or c) for c in view.corpora}
    return told


def _origins(description: Description, pairs: Iterable[PairEntry]) -> dict[str, str]:
    names = sorted({n for p in pairs for n in (p.left, p.right)})
    hubs = {n: description.backbones.get(n, {}).get("hub") for n in names}
    return {n: str(hub) for n, hub in hubs.items() if hub}


def plate_settings(description: Description, name: str) -> DrawPlate:
    """The settings slice of one figure or table."""
    plate = PLATES[name]
    view = resolve_view(description, description.figures.view_of(name))
    if plate.corpora == "main":
        view = view.model_copy(update={"corpora": view.corpora[:1]})
    pairs = _shown(description, plate, view)
    view = view.model_copy(update={"pairs": tuple(p.name for p in pairs)})
    facts = {key: getattr(description, key) for key in plate.facts}
    if "backbones" in facts:
        shown = {n for p in pairs for n in (p.left, p.right)}
        facts["backbones"] = {n: b for n, b in facts["backbones"].items() if n in shown}
    if "series" in facts:
        facts["series"] = [series.model_dump(mode="json") for series in facts["series"]]
    labels = _labels(description, pairs, view)
    return DrawPlate(
        plate=name,
        study=description.name,
        synthetic=description.synthetic,
        style=Style() if plate.is_table else description.figures.style,
        view=view,
        pairs=pairs,
        untrained=untrained(description) if any(needs.controls for needs in plate.needs) else (),
        labels=labels,
        known=labels | _origins(description, pairs) if plate.references else {},
        facts=facts,
    )


def untrained(description: Description) -> tuple[str, ...]:
    """The backbones with random weights: made so, or on the right of a control tagged `untrained`."""
    tagged = {p.right for p in description.pairs if is_control(p.kind) and "untrained" in p.tags}
    return tuple(
        name
        for name, about in description.backbones.items()
        if name in tagged or str(about.get("source", "")).startswith("untrained from ")
    )


def _floor_of(part: Part) -> str:
    """The backbone whose floor a control is; controls are named after it, pairs by both sides."""
    if not is_control(part.kind):
        return ""
    left, beside, _ = part.pair.partition("--vs--")
    return left if beside else part.pair.rsplit("-", 1)[0]


def _wanted(part: Part, needs: Needs, plate: Plate, view: View, sides: set[str]) -> bool:
    if part.table != needs.table:
        return False
    recipe = needs.every_recipe or part.recipe in ("", view.recipe)
    if part.table == "measures":
        return (
            part.stage in needs.stages
            and (not needs.families or part.family in needs.families)
            and _shown_in_mode(part, view)
            and (_is_of_labels(part) or plate.corpora == "any" or part.corpus in ("", *view.corpora))
            and (part.pair in view.pairs or (needs.controls and _floor_of(part) in sides))
            and recipe
        )
    if part.table == "scores" and needs.pooled and not is_embedder(part.model):
        return True
    if part.table in ("scores", "training"):
        backbone = _trained_from(part.model)
        return (backbone in sides if plate.pairs != "none" else bool(backbone)) and recipe
    if part.table == "backbones":
        return part.model in sides
    return True


def _shown_in_mode(part: Part, view: View) -> bool:
    """Whether measures are of the shown attention mode, or of a family that the mode makes no sense for."""
    family = FAMILIES.get(part.family)
    return part.attention in ("", view.attention) or bool(family and view.attention not in family.modes)


def _trained_from(model: str) -> str:
    """The backbone of a finished embedder; nothing for a checkpoint on the way to one, or a backbone."""
    if not is_embedder(model):
        return ""
    embedder = EmbedderId.parse(model)
    return embedder.backbone if embedder.step is None else ""


def plate_parts(description: Description, name: str) -> list[Part]:
    """The tidy results that one figure or table reads."""
    plate = PLATES[name]
    job = plate_settings(description, name)
    sides = {side for pair in job.pairs for side in (pair.left, pair.right)}
    return [
        part
        for part in description.parts
        if any(_wanted(part, needs, plate, job.view, sides) for needs in plate.needs)
    ]


def filled(description: Description) -> list[str]:
    """The plates that the study has anything to show on; all others would be empty pages."""
    return [name for name in PLATES if _fills(description, name)]


def _fills(description: Description, name: str) -> bool:
    plate, parts = PLATES[name], plate_parts(description, name)
    if plate.stage and not plate_settings(description, name).pairs:
        return False
    return all(any(p.table == n.table for p in parts) for n in plate.needs if n.required)


def report_settings(description: Description) -> WriteReport:
    """The settings slice of the report: captions are its settings, so that a new one rewrites it."""
    plates = [PLATES[name] for name in filled(description)]
    plates.sort(key=lambda plate: not plate.needs)  # drawings without data after all results
    return WriteReport(
        plates=tuple(
            PlateText(name=p.name, heading=p.heading, title=p.title, caption=p.caption) for p in plates
        )
    )


def claims_settings(description: Description) -> JudgeClaims:
    """The settings slice of the claims: ours first, as they are stated, then the study's own.

    Tests of backbones in further attention modes are claims of their own, after the one that they belong to.
    """
    stated, ours = description.claims.all(), [*PAPER_CLAIMS, *PAPER_TENSIONS, *LITERATURE_CLAIMS]
    view = resolve_view(description, description.figures.view)
    modes = {p.attention for p in description.parts_of("measures") if p.stage == "backbone"} - {""}
    main, *others = sorted(modes, key=lambda mode: (mode != view.attention, mode)) or [view.attention]
    claims = {
        f"{name}_{mode}" if mode else name: claim
        for name in sorted(stated, key=lambda n: (ours.index(n) if n in ours else len(ours), n))
        for mode, claim in stated[name].in_modes(main, others)
    }
    return JudgeClaims(
        study=description.name, alpha=description.claims.alpha, claims=claims, order=tuple(claims),
        pairs=tuple(p for p in description.pairs if not p.path), view=view,
        untrained=untrained(description),
    )  # fmt: skip


def claims_parts(description: Description) -> list[Part]:
    """The tidy results that the claims read: the main recipe's scores and measures, in all modes."""
    job = claims_settings(description)
    tests = [test for claim in job.claims.values() for test in claim.tests]
    recipe, lifts = job.view.recipe, any(test.statistic == "lift" for test in tests)
    families = {test.read_family for test in tests}
    floors = {p.right for p in job.pairs if p.kind in job.controls}
    along = {pair.name for pair in description.pairs if pair.path}
    on_the_way = {name for series in description.series for name, _ in series.places} - {
        side for pair in job.pairs for side in (pair.left, pair.right)
    }
    return [
        p
        for p in description.parts
        if p.pair not in along
        and _backbone_of(p.model) not in on_the_way
        and (
            (p.table == "measures" and p.family in families and p.recipe in ("", recipe))
            or (p.table == "scores" and p.recipe == recipe and _trained_from(p.model))
            or (p.table == "scores" and p.model in floors)
            or (lifts and p.table == "queries" and _pooled_or_trained(p, recipe))
        )
    ]


def _backbone_of(model: str) -> str:
    """The backbone that an embedder was trained from, or the backbone itself."""
    return EmbedderId.parse(model).backbone if is_embedder(model) else model


def _pooled_or_trained(part: Part, recipe: str) -> bool:
    """Whether a file is of an untrained backbone or of a finished embedder of a recipe."""
    return not is_embedder(part.model) or (part.recipe == recipe and bool(_trained_from(part.model)))
