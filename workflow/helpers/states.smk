# What the rules of states.smk ask of the study.


def model_of(wildcards):
    """The directory of a backbone or of an embedder, whose names hold a '+'."""
    stage = "embedders" if "+" in wildcards.model else "backbones"
    return f"{R}/{stage}/{wildcards.model}/model"
