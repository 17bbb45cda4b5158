"""Tiny corpora and models: enough to train on in seconds, real in every format."""

import random
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # helpers of these tests lie beside them

from backbones_help import MICRO, make, pretraining, sums, write_lines


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpora(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpora")
    draw = random.Random(5)
    words = "the sum of each axis returns an array with one value per row and column".split()  # noqa: SIM905
    texts = [{"id": f"t{i}", "text": " ".join(draw.choices(words, k=30))} for i in range(60)]
    write_lines(folder / "text.jsonl", texts)
    write_lines(folder / "pretrain.jsonl", sums(80, 1, wrong=0.5))
    write_lines(folder / "train.jsonl", sums(40, 2))
    write_lines(folder / "heldout.jsonl", sums(20, 3))
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory, corpora) -> Path:
    """A micro base model, pretrained for a few steps by the real command."""
    folder = tmp_path_factory.mktemp("base")
    make("pretrain", MICRO | {"optimisation": {"steps": 6}}, pretraining(corpora), folder)
    return folder / "model"
