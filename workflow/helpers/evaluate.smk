# What the rules of evaluate.smk ask of the study.


def task_inputs(tasks):
    """What those tasks read; an embedded task's manifest stands for its folder."""
    given = [
        (path, EVALUATION.is_folder(task))
        for task in tasks
        for path in EVALUATION.data(task)
    ]
    return dict(
        tasks=[ancient(path) if folder else path for path, folder in given],
        manifests=[f"{path}.manifest.json" for path, folder in given if folder],
    )


def present(wc):
    """The score files of a model that are there, each with its record."""
    pairs = zip(EVALUATION.scores(wc.model), EVALUATION.records(wc.model))
    there = [(s, r) for s, r in pairs if Path(s).is_file() and Path(r).is_file()]
    return dict(scores=[s for s, _ in there], records=[r for _, r in there])
