"""The survival family: what contrastive training leaves of the update between two backbones.

P and Q are the backbones, E and F the embedders trained from them with one recipe and seed, E' the left
one of another seed. D = Q − P is the update before training and Δ = F − E what is left of it after:

- survival: ⟨Δ, D⟩/|D|², which is 1 where all of D is kept and 0 where nothing is; the share of Δ that
  D explains, ⟨Δ, D⟩²/(|Δ|²|D|²); and the floor |⟨E' − E, D⟩|/|D|², which a change of the seed alone gives
- update_cosine: of the two trainings' updates F − Q and E − P, and of two seeds' E' − P and E − P

Differences of weights as vectors are those of task arithmetic (arXiv 2212.04089).
"""

from collections.abc import Sequence

import torch

import realign.measures.survival  # noqa: F401 (declares what its rows hold)
from realign.artifacts.command import Job
from realign.engine.progress import follow
from realign.hrsa.folders import Folder, blocks, share
from realign.hrsa.rows import Rows
from realign.hrsa.tensor_sums import Ratio, Sums
from realign.study.hrsa import ComparingModels


def run(job: Job[ComparingModels]) -> None:
    """The command: the folders of two backbones and of their embedders to rows."""
    folders = [Folder(job.input(name)) for name in ("left_origin", "right_origin", "left", "right")]
    others = [Folder(path) for path in job.inputs_of("left_other")]
    measure(folders, others[0] if others else None, job.settings).write(job.output("measures"))


def measure(folders: Sequence[Folder], other: Folder | None, settings: ComparingModels) -> Rows:
    """What is left of an update, from P, Q, E, F and, as far as there is one, E'."""
    folders = [*folders, *([other] if other else [])]
    tensors, left_out = share(folders)
    sums = Sums(tensors, left_out)
    for i, tensor in enumerate(follow(tensors, "survival", unit="tensors")):
        for block in blocks(tensor.shape):
            models = [folder.rows(tensor.name, block.start, block.stop).float() for folder in folders]
            p, q, e, f, *seeds = models
            d, delta, trained, trained_too = q - p, f - e, e - p, f - q
            kept, size = _dot(delta, d), _dot(d, d)
            sums.add(i, "survival.coefficient", Ratio(kept, size))
            sums.add(i, "survival.explained", Ratio(kept, size, _dot(delta, delta)))
            squares = _dot(trained_too, trained_too), _dot(trained, trained)
            sums.add(i, "update_cosine.training", Ratio(_dot(trained_too, trained), *squares))
            for e_other in seeds:
                sums.add(i, "survival.floor", Ratio(_dot(e_other - e, d), size))
                again = e_other - p
                squares = _dot(again, again), _dot(trained, trained)
                sums.add(i, "update_cosine.seeds", Ratio(_dot(again, trained), *squares))
    return sums.rows(settings)


def _dot(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((x * y).sum(dtype=torch.float64))
