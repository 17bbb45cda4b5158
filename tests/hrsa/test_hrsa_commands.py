"""The commands: files in, tidy rows out, the same bytes again, and clear words when files do not fit."""

import shutil

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from realign.artifacts.fingerprint import ROOT, fingerprint, forget
from realign.cli import main
from realign.hrsa.reading import StateFile
from realign.hrsa.rows import SCHEMA
from realign.measures.families import FAMILIES
from realign.results.columns import COLUMNS


@pytest.fixture
def run(tmp_path):
    def call(command, left, right, *more, outputs=("measures",)):
        words = [command, "--left", str(left), "--right", str(right), "--store", str(tmp_path / "store")]
        for name in outputs:
            suffix = ".parquet" if name == "measures" else ".h5"
            words += [f"--{name}", str(tmp_path / f"{command}{suffix}")]
        return main([*words, *more])

    return call


@pytest.fixture
def files(tmp_path, pair, text_index, make_file):
    return [make_file(tmp_path / f"{n}.h5", v, text_index) for n, v in zip("ab", pair, strict=True)]


CONTEXT = (
    "{study: tiny, stage: embedder, pair: x--vs--y, kind: rlvr, tags: [prolonged, math], corpus: docs,"
    " recipe: full, seed_left: 0, seed_right: 0}"
)


def test_linear_writes_rows_and_matrices(run, files, tmp_path):
    words = ("--settings", f"{{context: {CONTEXT}}}")
    assert run("hrsa_linear", *files, *words, outputs=("measures", "matrices")) == 0
    table = pq.read_table(tmp_path / "hrsa_linear.parquet")
    assert table.schema == SCHEMA
    assert table.column_names == COLUMNS["measures"]
    d = table.to_pandas()
    assert set(d.study) == {"tiny"}
    assert set(d.tags) == {"prolonged,math"}
    assert set(d.corpus) == {"docs"}
    assert set(d.attention) == {"causal"}
    assert set(d.token_rule) == {"20000-skip4"}
    assert set(d.n) == {30}
    cka = d[(d.measure == "cka") & (d.statistic == "value")]
    assert len(cka) == 9
    assert ((cka.ci_low <= cka.value) & (cka.value <= cka.ci_high)).all()
    with h5py.File(tmp_path / "hrsa_linear.h5") as file:
        assert file["cka"].shape == (3, 3)
        assert file["cka"][1, 2] == cka[(cka.layer_left == 1) & (cka.layer_right == 2)].value.item()
        rotation = file["rotation"][:]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(12), atol=1e-5)
    assert (tmp_path / "hrsa_linear.h5.manifest.json").is_file()


def test_the_same_states_give_the_same_bytes(run, files, tmp_path):
    made = []
    for _ in range(2):
        assert run("hrsa_linear", *files, "--force", outputs=("measures", "matrices")) == 0
        made.append([(tmp_path / f"hrsa_linear.{x}").read_bytes() for x in ("parquet", "h5")])
    assert made[0] == made[1]


def test_states_that_are_read_again_and_again_are_read_from_the_nodes_own_disk(
    run, files, tmp_path, monkeypatch
):
    opened, disk = [], tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setenv("REALIGN_LOCAL_DATA", str(disk))
    opens = StateFile.__init__
    monkeypatch.setattr(StateFile, "__init__", lambda self, path: opened.append(path) or opens(self, path))
    assert run("hrsa_linear", *files, outputs=("measures", "matrices")) == 0
    near = [(tmp_path / f"hrsa_linear.{x}").read_bytes() for x in ("parquet", "h5")]
    assert len(opened) == 2
    assert all(path.is_relative_to(disk) for path in opened)
    assert list(disk.iterdir()) == []

    monkeypatch.delenv("REALIGN_LOCAL_DATA")
    assert run("hrsa_linear", *files, "--force", outputs=("measures", "matrices")) == 0
    assert near == [(tmp_path / f"hrsa_linear.{x}").read_bytes() for x in ("parquet", "h5")]


def test_neighbours_and_extra(run, files, tmp_path):
    assert run("hrsa_neighbours", *files, "--k", "[3, 10]") == 0
    d = pq.read_table(tmp_path / "hrsa_neighbours.parquet").to_pandas()
    assert set(d[d.measure == "knn_overlap"].k) == {3, 10}
    assert run("hrsa_extra", *files, "--max-tokens", "100") == 0
    d = pq.read_table(tmp_path / "hrsa_extra.parquet").to_pandas()
    assert {"rsa", "svcca", "cka_rbf", "intrinsic_dimension", "isotropy"} <= set(d.measure)
    assert set(d[d.measure == "isotropy"].direction) == {"left", "right"}


def test_probe_reads_labels_from_pooled_states(run, random, tmp_path, make_file):
    labels = random.integers(0, 2, 80)
    values = (random.standard_normal((2, 80, 6)) + 2 * labels[:, None]).astype(np.float32)
    names = [f"topic {n}" for n in labels]
    pooled = [make_file(tmp_path / f"{n}.h5", values, np.arange(80), names, pooled=True) for n in "ab"]
    assert run("hrsa_probe", *pooled, "--seeds", "1") == 0
    d = pq.read_table(tmp_path / "hrsa_probe.parquet").to_pandas()
    assert set(d[d.measure == "probe"].direction) == {"left", "right", "native", "back"}
    assert set(d.token_rule) == {"texts"}


def test_probe_takes_numbers_for_classes_if_told_so(run, random, tmp_path, make_file):
    ids = np.repeat(np.arange(22), 6)
    values = random.standard_normal((1, len(ids), 4)).astype(np.float32)
    files = [
        make_file(tmp_path / f"{n}.h5", values, np.arange(len(ids)), ids.astype(str), pooled=True)
        for n in "ab"
    ]
    for task, statistic in (("auto", "r2"), ("classes", "accuracy")):
        assert run("hrsa_probe", *files, "--seeds", "1", "--task", task) == 0
        assert statistic in set(pq.read_table(tmp_path / "hrsa_probe.parquet").to_pandas().statistic)


def test_texts_too_few_for_the_debiased_cka_are_warned_of_once(run, pair, tmp_path, make_file, capsys):
    for texts, warnings in ((4, 1), (5, 0)):
        index = np.repeat(np.arange(texts), 8)
        few = [make_file(tmp_path / f"{texts}{i}.h5", v[:, : len(index)], index) for i, v in enumerate(pair)]
        assert run("hrsa_linear", *few, outputs=("measures", "matrices")) == 0
        assert said(capsys).count("the debiased CKA takes 4, and 5 for its interval") == warnings
        d = pq.read_table(tmp_path / "hrsa_linear.parquet").to_pandas()
        debiased = d[d.measure == "cka_debiased"]
        assert debiased.value.notna().all()
        assert debiased.ci_low.notna().all() == (not warnings)


def test_bfloat16_states_are_read_as_the_numbers_they_are(random, text_index, tmp_path, make_file):
    from realign.hrsa.reading import StateFile

    values = random.standard_normal((1, 240, 4)).astype(np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    with StateFile(make_file(tmp_path / "a.h5", bits, text_index)) as file:
        read = file.read(0, [slice(0, 240)])
    np.testing.assert_allclose(read, values[0], rtol=2**-7)
    assert ((read.view(np.uint32) & 0xFFFF) == 0).all()


def said(capsys):
    return capsys.readouterr().err


def test_other_tokens_are_refused_by_their_first_difference(
    run, files, pair, text_index, tmp_path, make_file, capsys
):
    ids = (np.arange(240) * 7 % 11).astype(np.int32)
    ids[17] = 99
    other = make_file(tmp_path / "c.h5", pair[1], text_index, token_ids=ids)
    assert run("hrsa_extra", files[0], other) == 1
    assert "row 17 is token 9 (text 2), in the second, row 17 is token 99" in said(capsys)
    assert run("hrsa_extra", files[0], other, "--alignment", "counts") == 0


def test_what_is_no_states_file_is_named(run, files, tmp_path, capsys):
    (tmp_path / "text.h5").write_text("hello")
    assert run("hrsa_extra", files[0], tmp_path / "text.h5") == 1
    assert "text.h5: not an HDF5 file" in said(capsys)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["states"] = np.zeros((1, 1, 1))
    assert run("hrsa_extra", files[0], tmp_path / "other.h5") == 1
    assert "its format is None" in said(capsys)


@pytest.mark.parametrize("command", ["hrsa_linear", "hrsa_neighbours", "hrsa_extra"])
def test_values_that_are_not_finite_are_named(
    run, files, pair, text_index, tmp_path, make_file, capsys, command
):
    values = pair[1].copy()
    values[1, 3, 2] = np.nan
    broken = make_file(tmp_path / "c.h5", values, text_index)
    outputs = ("measures", "matrices") if command == "hrsa_linear" else ("measures",)
    assert run(command, files[0], broken, outputs=outputs) == 1
    assert "c.h5: layer 1 holds values that are not finite" in said(capsys)
    assert not (tmp_path / f"{command}.parquet").exists()


@pytest.mark.parametrize("command", ["hrsa_linear", "hrsa_neighbours", "hrsa_extra"])
def test_models_of_other_width_and_depth_are_compared_as_far_as_that_makes_sense(
    run, files, random, text_index, tmp_path, make_file, command
):
    other = make_file(tmp_path / "c.h5", random.standard_normal((2, 240, 20)), text_index)
    outputs = ("measures", "matrices") if command == "hrsa_linear" else ("measures",)
    assert run(command, files[0], other, outputs=outputs) == 0
    d = pq.read_table(tmp_path / f"{command}.parquet").to_pandas()
    assert "procrustes" not in set(d.measure)
    if command == "hrsa_linear":
        assert len(d[(d.measure == "cka") & (d.statistic == "value")]) == 6


def test_one_familys_code_is_no_part_of_anothers_identity():
    from realign.artifacts.fingerprint import reachable

    own = {
        "linear": {"linear", "cka", "correlation", "procrustes", "products", "torch_products", "centred"},
        "neighbours": {"neighbours"},
        "probe": {"probe", "labels"},
        "extra": {"extra"},
    }
    for family in own:
        reached = {m.rsplit(".", 1)[1] for m in reachable(f"realign.hrsa.{family}") if ".hrsa." in m}
        strangers = set().union(*(own[f] for f in own if f != family)) - own[family]
        assert reached & strangers == set(), family
        assert family in reached


def test_a_comparison_is_stale_by_declarations_of_its_own_family_alone(tmp_path):
    copy = tmp_path / "realign"
    shutil.copytree(ROOT, copy)

    def stale_after(family, old, new):
        codes = [{name: fingerprint(f.run.split(":")[0], copy) for name, f in FAMILIES.items()}]
        declared = copy / "measures" / f"{family}.py"
        text = declared.read_text("utf-8")
        assert text.count(old) == 1
        declared.write_text(text.replace(old, new), "utf-8")
        forget()
        codes.append({name: fingerprint(f.run.split(":")[0], copy) for name, f in FAMILIES.items()})
        return {name for name in FAMILIES if codes[0][name] != codes[1][name]}

    new = 'register(\n    Measure("own", "extra", "geometry", "Own", {"mean": Statistic()}),'
    assert stale_after("extra", "register(\n", new + "\n") == {"extra"}
    assert stale_after("linear", "(0.0, pi / 2)", "(0.0, pi)") == {"linear"}
    assert stale_after("probe", "the score of these probes", "scores of these probes") == {"probe"}
    forget()
