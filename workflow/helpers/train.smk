# What the rules of train.smk ask of the study.


def training_data(wildcards):
    """The mined pairs that a recipe trains on."""
    recipe = STUDY.recipes[wildcards.recipe]
    names = recipe.datasets or sorted(STUDY.data.datasets)
    trained = recipe.trained_on(names)
    return [training_pairs(name) for name in names if name in trained]


def guide_model(wildcards):
    """The guide model that a recipe's loss asks, if it does."""
    model = STUDY.recipes[wildcards.recipe].guide_model
    if model.backbone:
        place = artifact(f"{R}/backbones/{model.backbone}/model")
        return dict(guide=place["data"], guide_manifest=place["manifest"])
    if model.path:
        return dict(
            guide=own(f"recipes.{wildcards.recipe}.guide_model.path", model.path)
        )
    return dict(guide=[])


def own_deepspeed(wildcards):
    """The DeepSpeed configuration that a recipe brings along, if it does."""
    file = STUDY.recipes[wildcards.recipe].deepspeed
    return own(f"recipes.{wildcards.recipe}.deepspeed", file) if file else []


def training(wildcards):
    """The settings of one training."""
    return Train(
        study=STUDY.study.name,
        backbone_name=wildcards.backbone,
        recipe_name=wildcards.recipe,
        seed=int(wildcards.seed),
        study_seed=STUDY.study.seed,
        embedder=STUDY.embedder,
        recipe=STUDY.recipes[wildcards.recipe],
    )


def hardware(wildcards):
    """How a training is computed; a resource, since it makes nothing stale."""
    asked = STUDY.resources.of("train", wildcards.backbone)
    given = {"processes": asked.gpus or None, "nodes": asked.nodes}
    own = {name: value for name, value in given.items() if value is not None}
    flags = STUDY.recipes[wildcards.recipe].hardware.flags(**own)
    return flags + FLOW.warning("train", wildcards.backbone)
