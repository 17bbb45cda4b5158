"""The commands of the similarity analysis, one for each family of measures."""

from realign.artifacts.command import Command, Input, Output
from realign.study.hrsa import ExtraJob, LinearJob, NeighboursJob, ProbeJob

_STATES = {
    "left": Input("The left model's states, HDF5."),
    "right": Input("The right model's states of the same tokens, HDF5."),
}
_POOLED = {
    "left": Input("The left model's pooled states, with labels, HDF5."),
    "right": Input("The right model's pooled states of the same texts, HDF5."),
}
_MEASURES = Output("The measures, Parquet, one row a number.")

LINEAR = Command(
    name="hrsa_linear",
    help="Compare two models' states: correlation, CKA and Procrustes.",
    run="realign.hrsa.linear:run",
    settings=LinearJob,
    inputs=_STATES,
    outputs={"measures": _MEASURES, "matrices": Output("Matrices worth keeping, HDF5.", manifest=True)},
    formats={"measures": 2, "matrices": 1},
)

NEIGHBOURS = Command(
    name="hrsa_neighbours",
    help="Compare two models' states: overlap of nearest neighbours.",
    run="realign.hrsa.neighbours:run",
    settings=NeighboursJob,
    inputs=_STATES,
    outputs={"measures": _MEASURES},
    formats={"measures": 2},
)

PROBE = Command(
    name="hrsa_probe",
    help="Compare two models' pooled states: linear probes moved between them.",
    run="realign.hrsa.probe:run",
    settings=ProbeJob,
    inputs=_POOLED,
    outputs={"measures": _MEASURES},
    formats={"measures": 2},
)

EXTRA = Command(
    name="hrsa_extra",
    help="Compare two models' states: RSA, RBF CKA, SVCCA, PWCCA, dimension, isotropy.",
    run="realign.hrsa.extra:run",
    settings=ExtraJob,
    inputs=_STATES,
    outputs={"measures": _MEASURES},
    formats={"measures": 2},
)
