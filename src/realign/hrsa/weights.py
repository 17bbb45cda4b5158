"""The weights family: what lies between the weights of two models of one shape, tensor by tensor."""

import logging

import torch

import realign.measures.weights  # noqa: F401 (declares what its rows hold)
from realign.artifacts.command import Job
from realign.engine.progress import follow
from realign.hrsa.folders import Folder, share
from realign.hrsa.rows import Rows
from realign.hrsa.tensor_sums import Sums
from realign.hrsa.updates import entrywise, matrixwise
from realign.seeds import derive_seed
from realign.study.hrsa import WeightsJob

log = logging.getLogger(__name__)


def run(job: Job[WeightsJob]) -> None:
    """The command: two model folders to rows."""
    measure(Folder(job.input("left")), Folder(job.input("right")), job.settings).write(job.output("measures"))


def measure(left: Folder, right: Folder, settings: WeightsJob) -> Rows:
    """All that is measured of the update from one model to another."""
    tensors, left_out = share([left, right])
    sums = Sums(tensors, left_out)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for i, tensor in enumerate(follow(tensors, "weights", unit="tensors")):
        a, b = (folder.rows(tensor.name, 0, tensor.shape[0]).to(device) for folder in (left, right))
        for statistic, ratio in entrywise(a, b, settings.tolerance, settings.largest).items():
            sums.add(i, statistic, ratio)
        if a.ndim == 2 and min(a.shape) > 1:
            seed = derive_seed(settings.seed, "hrsa", "weights", tensor.name)
            for statistic, ratio, k in matrixwise(a, b, settings.top, settings.exact, seed):
                sums.add(i, statistic, ratio, k)
        elif a.ndim > 2:
            log.warning("%s has %d dimensions: its rank and directions are left out", tensor.name, a.ndim)
    return sums.rows(settings)
