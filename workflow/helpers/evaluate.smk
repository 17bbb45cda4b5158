# What the rules of evaluate.smk ask of the study.

import re

from realign.runs.rounds import next_report

# Looked for once a model, so that jobs stay what they were planned as.
WARM_REPORTS = {}


def task_inputs(tasks):
    """What those tasks read; an embedded task's manifest stands for its folder."""
    given = [
        (path, EVALUATION.is_folder(task)) for task in tasks for path in task_data(task)
    ]
    return dict(
        tasks=[ancient(path) if folder else path for path, folder in given],
        manifests=[f"{path}.manifest.json" for path, folder in given if folder],
    )


def task_data(task):
    """The files that one task is evaluated on, a user's own or such as rules make."""
    given = EVALUATION.data(task)
    if EVALUATION.tasks[task].files is None or EVALUATION.is_folder(task):
        return given
    return [own(f"evaluation.tasks.{task}", path) for path in given]


def evaluated(wc):
    """What one model × task is evaluated from."""
    return artifact(EVALUATION.model_path(wc.model)) | task_inputs([wc.task])


def warm_report(wc):
    """Small tasks wait for those that are evaluated together."""
    # not ancient(): Snakemake would then overlook a single job's own reasons in the same run
    if wc.model not in WARM_REPORTS:
        asked = job("evaluate_warm", EVALUATION.warm_settings(wc.model))
        WARM_REPORTS[wc.model] = next_report(
            placed(f"{R}/scores/{wc.model}/warm"), asked
        )
    return dict(warm=WARM_REPORTS[wc.model])


def one_of(names):
    """A wildcard that is one of these and nothing else."""
    return "|".join(map(re.escape, names)) or "(?!)"


def none_of(names):
    """A wildcard before a file's ending that is none of these."""
    return rf"(?!(?:{one_of(names)})\.\w+$){WILDCARDS['task']}"


def present(wc):
    """The score files of a model that are there, each with what stands beside it."""
    files = zip(
        *(
            of(wc.model)
            for of in (EVALUATION.scores, EVALUATION.records, EVALUATION.queries)
        )
    )
    there = [three for three in files if all(placed(path).is_file() for path in three)]
    return dict(
        zip(
            ("scores", "records", "queries"),
            map(list, zip(*there) if there else ([],) * 3),
        )
    )


def moments(files):
    """When each was written, so that what was made again is collected again."""
    return [placed(path).stat().st_mtime for paths in files.values() for path in paths]
