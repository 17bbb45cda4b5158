# What the rules of backbones.smk ask of the study.


def only(has):
    """The names of the backbones that a rule makes, as the pattern of its wildcard."""
    names = [
        re.escape(name) for name, backbone in STUDY.backbones.items() if has(backbone)
    ]
    return "|".join(names) or "(?!)"  # what matches nothing


def seeded(recipe):
    """A recipe with the study's seed where it has none of its own."""
    if hasattr(recipe, "optimisation"):
        own = recipe.optimisation
        return recipe.model_copy(update={"optimisation": seeded(own)})
    return (
        recipe
        if recipe.seed is not None
        else recipe.model_copy(update={"seed": STUDY.study.seed})
    )


def tuning_hardware(rule, section):
    """How a derivation is computed; a resource, since it makes nothing stale."""

    def flags(wildcards):
        gpus = STUDY.resources.of(rule, wildcards.backbone).gpus
        own = getattr(STUDY.backbones[wildcards.backbone], section).hardware
        return own.flags(
            **({"processes": gpus} if gpus and own.processes is None else {})
        )

    return flags


def parent_model(wildcards):
    """The backbone that a derived one is made from."""
    return artifact(f"{R}/backbones/{STUDY.backbones[wildcards.backbone].parent}/model")


def import_source(wildcards):
    """What an imported model is read from: the user's own files, or what a package held."""
    name = wildcards.backbone
    backbone = STUDY.backbones[name]
    if backbone.pypi:
        return artifact(f"{R}/packages/backbones/{name}")
    given = backbone.gguf or backbone.path
    data = own(f"backbones.{name}.{backbone.source}", given)
    if backbone.gguf:
        return dict(data=data)
    inside = sorted(str(path) for path in Path(data).glob("*") if path.is_file())
    return dict(data=data, files=[local(path) for path in inside])


def score_settings(wildcards):
    """How a backbone is scored, and what it is compared with."""
    name = wildcards.backbone
    return ScoreJob(
        **seeded(STUDY.backbone_scores).model_dump(),
        study=STUDY.study.name,
        backbone=name,
        base=scored_base(name) or "",
        kind=kind_of(name, STUDY.backbones, STUDY.pairs),
    )


def scored_base(name):
    """The backbone that another is compared with, where that one is scored too."""
    base = base_of(name, STUDY.backbones, STUDY.pairs)
    return base if base in SCORED else None


def base_details(wildcards):
    base = scored_base(wildcards.backbone)
    return f"{R}/backbones/{base}/details.json" if base else []


def pair_settings(wildcards):
    """What the two sides of a pair must share."""
    pair = next(
        p for p in STUDY.pairs if (p.left, p.right) == (wildcards.left, wildcards.right)
    )
    return CheckPairJob(
        left_name=pair.left,
        right_name=pair.right,
        kind=pair.kind,
        tags=pair.tags,
        alignment=STUDY.hrsa.alignment,
        allow=pair.allow,
    )


def checks_of(backbone):
    """The checks of pairs that a backbone's trainings and extractions wait for, so that no hours are lost.

    A base does not wait for one of several siblings, nor for one that is made from it. Ancient: a check
    that runs again makes none of them stale.
    """
    pairs = [p for p in STUDY.pairs if backbone in (p.left, p.right)]
    waits = lambda p: p.right == backbone or (
        len(pairs) == 1 and STUDY.backbones[p.right].source not in DERIVED
    )
    return [ancient(f"{R}/pairs/{p.name}.json") for p in pairs if waits(p)]
