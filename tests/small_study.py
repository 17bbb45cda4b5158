"""A small study's made-up tidy results, drawn once for the tests of all rooms that read them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

from realign.names import EmbedderId
from realign.study.claims import Claims
from realign.study.description import Comparison, Description, PairEntry
from realign.study.figures import Figures, Style
from realign.study.series import SeriesEntry
from synthetic_results import fill

PAIRS = (
    PairEntry(name="base--vs--tuned", left="base", right="tuned", kind="sft"),
    PairEntry(name="base--vs--reasoned", left="base", right="reasoned", kind="rlvr"),
    PairEntry(name="reasoned--vs--longer", left="reasoned", right="longer", kind="rlvr", tags=("prolonged",)),
)
# On the way to `reasoned`, which is a series of three places.
PATH = (
    PairEntry(name="base--vs--early", left="base", right="early", kind="rlvr", embed=False, path="start"),
    PairEntry(
        name="early--vs--reasoned", left="early", right="reasoned", kind="rlvr", embed=False, path="step"
    ),
)
SERIES = SeriesEntry(
    name="reasoned", axis="step", kind="rlvr", start="base",
    places=(("base", 0.0), ("early", 10.0), ("reasoned", 40.0)),
)  # fmt: skip
SIDES = ("base", "tuned", "reasoned", "longer")
FAMILIES = ("linear", "neighbours", "probe")


def files(*corpora: str, modes: tuple[str, ...] = ("bidirectional",)) -> tuple[str, ...]:
    return tuple(f"{c}+{m}.{f}" for c in corpora for m in modes for f in FAMILIES)


def small_description(**changes: object) -> Description:
    """Three pairs, two corpora, two seeds, one checkpoint: every kind of part, little of it."""
    compared = []
    for pair in PAIRS:
        about = {"pair": pair.name, "kind": pair.kind}
        modes = ("bidirectional", "causal")
        compared.append(Comparison(left=pair.left, right=pair.right, stage="backbone",
                                 files=(*files("hard", "short", modes=modes), "weights", "hard+causal.behaviour"), **about))  # fmt: skip
        for seed, step in ((0, None), (1, None), (0, 20)):
            left, right = (str(EmbedderId(n, "full", seed, step)) for n in (pair.left, pair.right))
            stage = "checkpoint" if step else "embedder"
            corpora = ("hard",) if step else ("hard", "short")
            own = (*files(*corpora), *(() if step else ("weights", "survival")))
            compared.append(
                Comparison(left=left, right=right, stage=stage, recipe="full", files=own, **about)
            )
    for pair in PATH:
        own = ("hard+bidirectional.linear", "hard+bidirectional.neighbours", "weights")
        compared.append(
            Comparison(
                left=pair.left, right=pair.right, stage="backbone", pair=pair.name, kind="rlvr", files=own
            )
        )  # fmt: skip
    for name in SIDES:
        left, right = (str(EmbedderId(name, "full", seed)) for seed in (0, 1))
        compared.append(Comparison(left=left, right=right, stage="embedder", pair=f"{name}-seeds",
                                 kind="control", recipe="full", files=(*files("hard"), "weights")))  # fmt: skip
    trained = tuple(str(EmbedderId(n, r, s)) for n in SIDES for r in ("full", "lora") for s in (0, 1))
    given = {
        "name": "small",
        "title": "A small study",
        "question": "Is it <alike> & well?",
        "scope": "A made-up study shows nothing.",
        "seeds": (0, 1),
        "backbones": {n: {"source": "made up", "parameters": 1e6 * (i + 1)} for i, n in enumerate(SIDES)}
        | {"early": {"source": "made up", "parameters": 3e6}},
        "pairs": (*PAIRS, *PATH),
        "series": (SERIES,),
        "recipes": {
            "full": {"checkpoints": [20], "batches": {"size": 64}, "lora": None},
            "lora": {"checkpoints": [], "batches": {"size": 64}, "lora": {"rank": 4}},
        },
        "corpora": {"hard": {"labelled_by": "subject"}, "short": {}},
        "probe": {"test": 0.1, "seeds": 3},
        "datasets": {"nli": {"pairs": 500}, "quora": {"pairs": 300}},
        "benchmarks": {"docs": [f"task-{i}" for i in range(8)], "BRIGHT": [f"bright-{i}" for i in range(5)]},
        "compared": tuple(compared),
        "scored": trained,
        "judged": (*SIDES, "early"),
        "trained": trained,
        "mined": ("nli", "quora"),
        "audited": ("nli",),
        "figures": Figures(style=Style(dpi=60)),
        "claims": Claims(tensions=True),
    }
    return Description(**(given | changes))


@pytest.fixture(scope="session")
def description() -> Description:
    return small_description()


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, description: Description) -> Path:
    """Made-up tidy results of the small study; not to be written to."""
    folder = tmp_path_factory.mktemp("small")
    fill(description, folder)
    return folder


# What a machine that only draws does not have.
ABSENT = ("torch", "transformers", "deepspeed", "mteb", "sentence_transformers", "h5py", "snakemake")
COMMAND = (
    f"import sys; sys.modules.update(dict.fromkeys({ABSENT})); from realign.cli import main; sys.exit(main())"
)


@pytest.fixture(scope="session")
def drawn(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything drawn from them by `realign figures`, where no model's library can be imported."""
    out = tmp_path_factory.mktemp("drawn")
    words = [sys.executable, "-c", COMMAND, "figures", "--results", str(results), "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return out
