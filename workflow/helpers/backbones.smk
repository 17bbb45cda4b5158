# What the rules of backbones.smk ask of the study.


def only(has):
    """The names of the backbones that a rule makes, as the pattern of its wildcard."""
    names = [
        re.escape(name) for name, backbone in STUDY.backbones.items() if has(backbone)
    ]
    return "|".join(names) or "(?!)"  # what matches nothing


def seeded(settings):
    """Settings with the study's seed where they, or their optimisation, leave it open."""
    update = {}
    if hasattr(settings, "optimisation"):
        update["optimisation"] = seeded(settings.optimisation)
    if getattr(settings, "seed", 0) is None:
        update["seed"] = STUDY.study.seed
    return settings.model_copy(update=update)


def tuning_hardware(rule):
    """How a derivation is computed; a resource, since it makes nothing stale."""

    def flags(wildcards):
        gpus = STUDY.resources.of(rule, wildcards.backbone).gpus
        given = STUDY.backbones[wildcards.backbone].given
        words = given.hardware.flags(
            **({"processes": gpus} if gpus and given.hardware.processes is None else {})
        )
        if given.checkpoints:
            words += f" --checkpoints '{list(given.checkpoints)}'"
        return words + FLOW.warning(rule, wildcards.backbone)

    return flags


def whole_run(wildcards):
    """The run that a backbone is a checkpoint of, which comes first: it leaves what makes the others quick."""
    run = WHOLE_RUNS.get(wildcards.backbone)
    return [ancient(f"{R}/backbones/{run}/model.manifest.json")] if run else []


def parent_models(wildcards):
    """The backbones that one is made from, in the order of its settings."""
    parents = STUDY.backbones[wildcards.backbone].parents
    models = [artifact(f"{R}/backbones/{parent}/model") for parent in parents]
    return {part: [model[part] for model in models] for part in ("manifest", "data")}


def import_source(wildcards):
    """What an imported model is read from: the user's own files, or what a package held."""
    name = wildcards.backbone
    backbone = STUDY.backbones[name]
    if backbone.pypi:
        return artifact(f"{R}/packages/backbones/{name}")
    data = own(f"backbones.{name}.{backbone.source}", backbone.given)
    if backbone.gguf:
        return dict(data=data)
    inside = sorted(str(path) for path in Path(data).glob("*") if path.is_file())
    return dict(data=data, files=[local(path) for path in inside])


def score_job(scoring, name):
    """How a backbone is scored, and what it is compared with."""
    return ScoreJob(
        **seeded(scoring).model_dump(),
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

    A base does not wait for one of several siblings, nor for one that is made from it, and nobody for
    neighbours on a path: a further checkpoint would change who they are. Ancient: a check that runs again
    makes none of them stale.
    """
    pairs = [
        p
        for p in STUDY.pairs
        if (p.left == backbone and not p.path)
        or (p.right == backbone and p.path != "step")
    ]
    waits = lambda p: p.right == backbone or (
        len(pairs) == 1 and not STUDY.backbones[p.right].made_here
    )
    return [ancient(f"{R}/pairs/{p.name}.json") for p in pairs if waits(p)]
