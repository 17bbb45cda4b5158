"""A job's teacher and its vectors: which teacher was asked for, and where its vectors are kept."""

import logging
from typing import Any

import numpy as np

from realign.artifacts.command import Job, UserError
from realign.mining.cache import VectorCache
from realign.mining.teachers import Side, Teacher, load_teacher
from realign.seeds import derive_seed

log = logging.getLogger(__name__)


def teacher_of(job: Job[Any], texts: list[str]) -> Teacher:
    """The teacher that a job was given; one without a model learns from the texts what is rare."""
    settings, folders = job.settings, job.inputs_of("teacher")
    if (settings.lexical is None) != bool(folders):
        raise UserError("give one teacher: a folder (--teacher) or one without a model (--lexical {})")
    if settings.lexical is None:
        return load_teacher(folders[0], settings, settings.token_budget)
    from realign.mining.lexical import LexicalTeacher

    return LexicalTeacher(settings.lexical, texts, derive_seed(settings.seed, "lexical"))


def vectors_of(job: Job[Any], teacher: Teacher, side: Side, texts: list[str]) -> np.ndarray:
    """The vectors of texts, mapped into memory; encoded now where nobody has done it yet.

    A search reads all passages once for each block of queries: from the node's own disk, if it has one.
    """
    cache = VectorCache(job.work.folder.parent, teacher, side)
    encoded = cache.fill(texts, f"{job.work.folder.name}-{side}")
    log.info("%d texts on the %s side, %d of them encoded now", len(texts), side, encoded)
    path = job.scratch / f"{side}.npy"
    vectors, near = cache.gather(texts, path), job.near_disk.bring(path, path.name)
    return vectors if near == path else np.load(near, mmap_mode="r")
