# What the rules of mine.smk ask of the study.


def teacher_of(section):
    """A teacher as inputs: a backbone of the study, a folder, or nothing where it needs none."""
    teacher = section.teacher
    if teacher.backbone:
        return artifact(f"{R}/backbones/{teacher.backbone}/model")
    if not teacher.path:
        return {}
    where = "mining" if section is STUDY.mining else "mining.margin_filter"
    return dict(data=mined_with(f"{where}.teacher.path", teacher.path))


def mined_with(setting, path):
    """A user's own file or folder that datasets are mined with, as an input."""
    return lambda wc: own(setting, path)


def beside_raw_pairs():
    """What mining reads beside the raw pairs."""
    given = dict(corpus=STUDY.mining.corpus, cross_encoder=STUDY.mining.cross_encoder)
    return teacher_of(STUDY.mining) | {
        name: mined_with(f"mining.{name}", path) for name, path in given.items() if path
    }


def mended_pairs(dataset):
    """The mined pairs of a dataset, relabelled where the study asks for it."""
    relabelled = "relabelled/" if dataset in STUDY.mining.relabel.datasets else ""
    return f"{R}/mined/{dataset}/{relabelled}pairs.jsonl"


def training_pairs(dataset):
    """The pairs that a dataset is trained on: as they came, or mined, relabelled and filtered as asked."""
    if not STUDY.data.datasets[dataset].mined:
        return f"{R}/text/pairs/{dataset}.jsonl"
    if dataset in STUDY.mining.margin_filter.datasets:
        return f"{R}/mined/{dataset}/filtered/pairs.jsonl"
    return mended_pairs(dataset)


def judged_with(gold=None):
    """What a judge reads beside the mined pairs."""
    cross_encoder = STUDY.mining.judge.cross_encoder
    given = {
        "judge.cross_encoder.path": cross_encoder and cross_encoder.path,
        "audit.gold": gold,
    }
    names = ("cross_encoder", "gold")
    return {
        name: mined_with(f"mining.{setting}", path)
        for name, (setting, path) in zip(names, given.items())
        if path
    }


def asking():
    """How an endpoint is asked: resources, since none of it makes a job stale."""
    chat = STUDY.mining.judge.chat
    of_chat = dict(key_variable=chat.key_variable or "null") if chat else {}
    return dict(requests_at_once=STUDY.mining.requests_at_once) | of_chat


def flags_of(inputs):
    """The flags for inputs that a study may go without."""
    flags = dict(
        data="teacher", corpus="corpus", cross_encoder="cross-encoder", gold="gold"
    )
    return "".join(
        f" --{flag} {{input.{name}:q}}"
        for name, flag in flags.items()
        if name in inputs
    )
