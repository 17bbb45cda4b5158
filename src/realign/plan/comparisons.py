"""Which comparisons a study makes, and the files of measures of each.

The workflow's targets and the description of the tidy results both come from here, so that what is
planned and what is drawn cannot differ.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, combinations, permutations, product

from realign.measures.families import FAMILIES, Family
from realign.names import EmbedderId
from realign.plan.targets import embedded_backbones, seeds_of, trains
from realign.study.description import Comparison
from realign.study.kinds import is_control
from realign.study.pairs import Pair
from realign.study.study import Study


def comparisons(study: Study) -> list[Comparison]:
    """Every comparison that a study makes any measure of, in a fixed order."""
    whole = (*_backbones(study), *_floors(study), *_embedders(study), *_checkpoints(study), *_seeds(study))
    planned = product(whole, [study.hrsa.families]), product(_across_seeds(study), [_judged_by_seeds(study)])
    with_files = (
        comparison.model_copy(update={"files": _files(study, comparison, families)})
        for comparison, families in chain(*planned)
    )
    return [c for c in with_files if c.files]


def measured_corpora(study: Study) -> list[str]:
    """The probe corpora that models are compared on, the main one first."""
    return list(study.hrsa.corpora or study.text.probes)


def _files(study: Study, comparison: Comparison, chosen: Sequence[str]) -> tuple[str, ...]:
    """A comparison's files: corpus × attention mode × family, as far as a family has corpora and modes.

    Backbones are compared on all corpora in all asked attention modes, embedders on all corpora in
    their own mode; checkpoints, controls and pairs along a series on the main corpus, backbones there in
    the first mode that serves a family.
    """
    whole = comparison.stage != "checkpoint" and not is_control(comparison.kind) and not comparison.path
    corpora, modes = measured_corpora(study), study.hrsa.backbone_attention
    if comparison.stage != "backbone":
        modes = (study.embedder.attention,)

    def served_in(family: Family) -> Sequence[str]:
        fit = [mode for mode in modes if mode in family.modes]
        return fit if whole else fit[:1]

    families = [FAMILIES[name] for name in chosen]
    served = [
        family.file(corpus, attention)
        for corpus, attention in product((corpora if whole else corpora[:1]) or [""], modes)
        for family in families
        if attention in served_in(family) and _serves(study, family, comparison, corpus)
    ]
    return tuple(dict.fromkeys(served))  # a family without corpora or modes has its file once


def _serves(study: Study, family: Family, comparison: Comparison, corpus: str) -> bool:
    """Whether a family can compare these two on a corpus: probes need labels, and others of states tokens."""
    if comparison.stage not in family.stages or (family.corpus and not corpus):
        return False
    if family.origins and is_control(comparison.kind):
        return False  # two seeds have one backbone, and no update lies between it and itself
    if family.heads and study.hrsa.alignment != "ids":
        return False  # what comes next is compared where both models have read the same tokens
    if family.reads == "states":
        return study.states.selection(corpus).count != 0
    if family.reads == "pooled":
        probe = study.text.probes[corpus]
        return probe.embedded is not None or probe.label is not None
    return comparison.floor is None  # which is made of states


def _backbones(study: Study) -> Iterator[Comparison]:
    """Each pair of backbones."""
    for pair in study.pairs:
        yield Comparison(
            left=pair.left, right=pair.right, stage="backbone", pair=pair.name, kind=pair.kind,
            tags=pair.tags, path=pair.path,
        )  # fmt: skip


def _floors(study: Study) -> Iterator[Comparison]:
    """Each base backbone with itself made unlike."""
    compared = (pair for pair in study.pairs if not is_control(pair.kind) and pair.path != "step")
    bases = dict.fromkeys(pair.left for pair in compared)
    for base, floor in product(bases, study.hrsa.floors):
        yield Comparison(
            left=base, right=floor, stage="backbone", pair=f"{base}-{floor}", kind="control",
            tags=(floor,), floor=floor,
        )  # fmt: skip


def _embedders(study: Study) -> Iterator[Comparison]:
    """Each pair's embedders, seed by seed."""
    for pair, recipe, seed in _trainings(study):
        # The first other seed, which stays the same when a study gets more seeds.
        others = [other for other in seeds_of(study, recipe) if other != seed][:1]
        left = "".join(str(EmbedderId(pair.left, recipe, other)) for other in others)
        yield _trained(pair, recipe, seed).model_copy(update={"other_seed": left})


def _checkpoints(study: Study) -> Iterator[Comparison]:
    """Each pair's declared checkpoints, for the first seed."""
    for pair, recipe, seed in _trainings(study):
        if seed == seeds_of(study, recipe)[0]:
            yield from (_trained(pair, recipe, seed, step) for step in study.recipes[recipe].checkpoints)


def _trained(pair: Pair, recipe: str, seed: int, step: int | None = None) -> Comparison:
    left, right = (str(EmbedderId(side, recipe, seed, step)) for side in (pair.left, pair.right))
    return Comparison(
        left=left, right=right, stage="embedder" if step is None else "checkpoint", pair=pair.name,
        kind=pair.kind, tags=pair.tags, recipe=recipe, step=step, seed_left=seed, seed_right=seed,
        path=pair.path,
    )  # fmt: skip


def _trained_pairs(study: Study) -> Iterator[tuple[Pair, str]]:
    """Each pair and recipe that embedders of both sides are trained with."""
    for pair, recipe in product(study.pairs, study.recipes):
        if pair.embed and all(trains(study, recipe, side) for side in (pair.left, pair.right)):
            yield pair, recipe


def _trainings(study: Study) -> Iterator[tuple[Pair, str, int]]:
    """The same with each seed."""
    for pair, recipe in _trained_pairs(study):
        yield from ((pair, recipe, seed) for seed in seeds_of(study, recipe))


def _seeds(study: Study) -> Iterator[Comparison]:
    """The floor of training noise: one backbone, two contrastive seeds."""
    for recipe, backbone in product(study.recipes, embedded_backbones(study)):
        if trains(study, recipe, backbone):
            for seeds in combinations(seeds_of(study, recipe)[:2], 2):
                yield _noise(f"{backbone}-seeds", "seeds", (backbone, backbone), recipe, seeds)


def _across_seeds(study: Study) -> Iterator[Comparison]:
    """What the noise of seeds is told from: a backbone's further seeds, and each pair's sides across seeds.

    Trained with different seeds, the sides of a pair share no batches, as two seeds of one side do not.
    """
    for recipe, backbone in product(study.recipes, embedded_backbones(study)):
        if trains(study, recipe, backbone):
            for seeds in list(combinations(seeds_of(study, recipe), 2))[1:]:
                yield _noise(f"{backbone}-seeds", "seeds", (backbone, backbone), recipe, seeds)
    for pair, recipe in _trained_pairs(study):
        for seeds in permutations(seeds_of(study, recipe), 2):
            yield _noise(f"{pair.name}-crossed", "crossed", (pair.left, pair.right), recipe, seeds)


def _noise(name: str, tag: str, sides: tuple[str, str], recipe: str, seeds: tuple[int, ...]) -> Comparison:
    left, right = (str(EmbedderId(side, recipe, seed)) for side, seed in zip(sides, seeds, strict=True))
    return Comparison(
        left=left, right=right, stage="embedder", pair=name, kind="control", tags=(tag,), recipe=recipe,
        seed_left=seeds[0], seed_right=seeds[1],
    )  # fmt: skip


def _judged_by_seeds(study: Study) -> list[str]:
    """The families of the measures that claims judge against the noise of seeds."""
    tests = [test for claim in study.claims.all().values() for test in claim.tests]
    judged = {test.read_family for test in tests if test.rule.endswith("_floor")}
    return [name for name in study.hrsa.families if name in judged]
