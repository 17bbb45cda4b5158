"""The Python API: arrays, tensors or files in, a tidy frame out."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import realign.hrsa
from realign.artifacts.command import UserError
from realign.hrsa import compare


def test_files_arrays_and_tensors_give_the_same(pair, text_index, tmp_path, make_file):
    paths = [make_file(tmp_path / f"{n}.h5", v, text_index) for n, v in zip("ab", pair, strict=True)]
    by_file = compare(*paths, k=(5,))
    by_array = compare(*pair, text_index, k=(5,))
    assert set(by_array["token_rule"]) == {"all"}
    by_tensor = compare(*(torch.tensor(v, dtype=torch.float32) for v in pair), text_index, k=(5,))
    keys = ["measure", "statistic", "layer_left", "layer_right", "k", "direction", "preset"]
    pd.testing.assert_frame_equal(by_file[[*keys, "value", "ci_low"]], by_array[[*keys, "value", "ci_low"]])
    same = np.allclose(by_tensor.value.fillna(-1), by_array.value.fillna(-1), atol=2e-2)
    assert same


def test_tensors_keep_their_precision(random):
    x = 1e6 + 0.1 * random.standard_normal((1, 200, 6))
    y = x + 0.05 * random.standard_normal(x.shape)
    tables = [
        compare(a, b, families="linear", precision="float64")
        for a, b in (
            (x, y),
            (torch.tensor(x), torch.tensor(y)),
            ([torch.tensor(x[0], requires_grad=True)], y),
        )
    ]
    for table in tables[1:]:
        np.testing.assert_array_equal(table["value"], tables[0]["value"])


def test_a_single_layer_is_enough(random):
    x = random.standard_normal((50, 4))
    d = compare(x, x, families=["linear"])
    assert d[(d.measure == "cka") & (d.statistic == "value")].value.item() == pytest.approx(1)
    assert d[d.statistic == "texts"].value.item() == 50


def test_importing_the_room_loads_nothing_heavy():
    code = "import realign.hrsa, sys; print([m for m in ('numpy', 'torch', 'pandas') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch is blocked here")

sys.meta_path.insert(0, Blocked())
import numpy as np
from realign.hrsa import compare

x = np.random.default_rng(0).standard_normal((2, 60, 6))
table = compare(x, x + 0.1, families=sys.argv[1], labels=["even", "odd"] * 30)
print(len(table) > 10, "torch" in sys.modules)
"""


@pytest.mark.parametrize("family", ["linear", "extra", "probe"])
def test_a_family_that_needs_no_torch_is_computed_without_it(family):
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, family], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("True False\n", 0), done.stderr[-2000:]


def test_mistakes_are_named(random):
    x = random.standard_normal((50, 4))
    with pytest.raises(UserError, match="no setting 'neighbours'"):
        compare(x, x, neighbours=5)
    with pytest.raises(UserError, match="no family 'linnear'"):
        compare(x, x, families=["linnear"])
    with pytest.raises(UserError, match="the same tokens must stand in both"):
        compare(x, x[:40])
    for given, said in (({"k": (10, 5)}, "k"), ({"floor": "nope"}, "floor"), ({"context": {}}, "context")):
        with pytest.raises(UserError, match=said):
            compare(x, x, **given)
    with pytest.raises(UserError, match="none is asked for"):
        compare(x, x, families=[])
    with pytest.raises(UserError, match="none of them empty, not 1 × 50 × 0"):
        compare(x[:, :0], x[:, :0])
    with pytest.raises(UserError, match="real numbers, not complex128"):
        compare(x + 1j, x)
    with pytest.raises(UserError, match="at least 4"):
        compare(x[:3], x[:3])
    with pytest.raises(UserError, match="3 text indexes for 50 tokens"):
        compare(x, x, [0, 1, 2])
    with pytest.raises(UserError, match="3 axes"):
        compare(x[0], x[0])
    with pytest.raises(AttributeError, match="compared"):
        realign.hrsa.compared  # noqa: B018


def test_files_of_pooled_states_bring_their_labels(random, make_file, tmp_path):
    values, labels = random.standard_normal((2, 120, 6)), [f"c{i % 3}" for i in range(120)]
    files = [
        make_file(tmp_path / f"{name}.h5", values + i, np.arange(120), labels=labels, pooled=True)
        for i, name in enumerate("ab")
    ]
    told = compare(*files, families=["probe"], seeds=1)
    pd.testing.assert_frame_equal(told, compare(*files, labels=labels, families=["probe"], seeds=1))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("family", ["linear", "neighbours", "extra"])
def test_one_text_has_numbers_and_no_intervals_and_makes_no_noise(family, random):
    x = random.standard_normal((2, 60, 6))
    table = compare(x, x + 0.3, np.zeros(60, int), families=family)
    assert table["value"].notna().any()
    assert table["ci_low"].isna().all()
