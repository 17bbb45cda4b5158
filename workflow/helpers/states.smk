# What the rules of states.smk ask of the study.


def folder_of(model):
    """The directory of a backbone or of an embedder, whose names hold a '+'."""
    stage = "embedders" if "+" in model else "backbones"
    return f"{R}/{stage}/{model}/model"
