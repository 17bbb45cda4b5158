"""The weights family: updates of known size, sparsity, rank and direction, and every kind of folder."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from realign.artifacts.command import UserError
from realign.cli import main
from realign.hrsa.folders import Folder, Shared, share
from realign.hrsa.rows import SCHEMA
from realign.hrsa.updates import spectrum
from realign.hrsa.weights import measure
from realign.study.hrsa import WeightsJob

NAME = "layers.{}.self_attn.q_proj.weight"
TOP = 4
EXACT, SKETCHED = WeightsJob(top=TOP), WeightsJob(top=TOP, exact=1)


def orthonormal(generator, rows, columns):
    return torch.linalg.qr(torch.randn(rows, columns, generator=generator, dtype=torch.float64))[0]


def folder(path, tensors, shards=1, config=None):
    """A model's folder; of several shards with an index."""
    path.mkdir()
    names = list(tensors)
    files = {f"model-{i}.safetensors": names[i::shards] for i in range(shards)}
    for file, own in files.items():
        save_file({name: tensors[name].contiguous() for name in own}, path / file)
    if shards > 1:
        index = {name: file for file, own in files.items() for name in own}
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (path / "config.json").write_text(json.dumps(config or {}))
    return path


@pytest.fixture
def matrices():
    """Three layers' matrices, 60 × 40 with a spectrum that falls, with their directions."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for _ in range(3):
        u, v = orthonormal(generator, 60, 40), orthonormal(generator, 40, 40)
        s = 0.8 ** torch.arange(40, dtype=torch.float64)
        found.append((u, s, v))
    return found


def measured(tmp_path, matrices, update, settings=EXACT):
    """The numbers of whole models when each matrix A = U S Vᵀ becomes A + update(U, S, V)."""
    sides = {"a": {}, "b": {}}
    for i, (u, s, v) in enumerate(matrices):
        a = u * s @ v.T
        sides["a"][NAME.format(i)], sides["b"][NAME.format(i)] = a.float(), (a + update(u, s, v)).float()
    paths = [folder(tmp_path / name, tensors) for name, tensors in sides.items()]
    table = measure(*map(Folder, paths), settings).table().to_pandas()
    whole = table[(table["part"] == "") & table["layer_left"].isna() & table["k"].isna()]
    return {f"{r.measure}.{r.statistic}": r.value for r in whole.itertuples()}


@pytest.mark.parametrize("settings", [EXACT, SKETCHED], ids=["exact", "sketched"])
def test_an_update_of_low_rank(tmp_path, matrices, settings):
    generator = torch.Generator().manual_seed(5)
    x, y = orthonormal(generator, 60, 3), orthonormal(generator, 40, 3)
    found = measured(
        tmp_path, matrices, lambda *_: x * torch.tensor([3.0, 2.0, 1.0]).double() @ y.T, settings
    )
    assert found["update_rank.effective"] == pytest.approx(14**2 / (81 + 16 + 1), rel=1e-4)
    assert found["update_rank.share"] == pytest.approx(2 / 40, rel=1e-4)
    assert found["update_rank.stable"] == pytest.approx(14 / 9, rel=1e-4)
    assert found["update_spectrum.top"] == pytest.approx(1, rel=1e-4)
    size = float((matrices[0][1] ** 2).sum())
    assert found["update_norm.norm"] == pytest.approx((14 / size) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("settings", [EXACT, SKETCHED], ids=["exact", "sketched"])
def test_an_update_within_the_principal_directions_and_one_beyond_them(tmp_path, matrices, settings):
    inside = measured(tmp_path, matrices, lambda u, s, v: 0.1 * u[:, :TOP] @ v[:, :TOP].T, settings)
    (tmp_path / "other").mkdir()
    beyond = measured(
        tmp_path / "other", matrices, lambda u, s, v: 0.01 * u[:, TOP:] @ v[:, TOP:].T, settings
    )
    for side in ("inside", "left", "right"):
        assert inside[f"principal_energy.{side}"] == pytest.approx(1, abs=1e-3)
        assert beyond[f"principal_energy.{side}"] == pytest.approx(0, abs=1e-3)
    assert inside["principal_energy.times_chance"] == pytest.approx(60 * 40 / TOP**2, rel=1e-3)
    # The base's first singular values all grow by a tenth, and no direction turns.
    first = matrices[0][1][:TOP]
    assert inside["singular_values.change"] == pytest.approx(0.2 / float(first.norm()), rel=1e-3)
    assert inside["subspace_angles.mean"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("settings", [EXACT, SKETCHED], ids=["exact", "sketched"])
def test_a_rotation_of_the_left_directions(tmp_path, matrices, settings):
    angle = 0.3

    def rotated(u, s, v):
        turned = u.clone()
        turned[:, 0] = np.cos(angle) * u[:, 0] + np.sin(angle) * u[:, -1]
        turned[:, -1] = np.cos(angle) * u[:, -1] - np.sin(angle) * u[:, 0]
        return (turned - u) * s @ v.T

    found = measured(tmp_path, matrices, rotated, settings)
    assert found["subspace_angles.left_largest"] == pytest.approx(angle, abs=1e-3)
    assert found["subspace_angles.left"] == pytest.approx(angle / TOP, abs=1e-3)
    assert found["subspace_angles.right_largest"] == pytest.approx(0, abs=1e-3)
    assert found["subspace_angles.mean"] == pytest.approx(angle / TOP / 2, abs=1e-3)
    assert found["singular_values.change"] == pytest.approx(0, abs=1e-4)


def test_an_update_without_direction_has_what_chance_has(tmp_path, matrices):
    generator = torch.Generator().manual_seed(8)
    noise = lambda *_: 1e-3 * torch.randn(60, 40, generator=generator, dtype=torch.float64)  # noqa: E731
    found = measured(tmp_path, matrices, noise)
    assert found["principal_energy.times_chance"] == pytest.approx(1, abs=0.4)
    assert found["principal_energy.left"] == pytest.approx(TOP / 60, abs=0.02)
    assert found["update_rank.effective"] == pytest.approx(60 * 40 / (60 + 40 + 1), rel=0.03)
    assert found["update_on_largest.share"] == pytest.approx(0.1, abs=0.02)


def test_a_sketch_estimates_the_effective_rank_of_a_flat_spectrum():
    noise = torch.randn(300, 200, generator=torch.Generator().manual_seed(1))
    exact, sketched = (spectrum(noise, 8, limit, 0) for limit in (500, 1))
    assert sketched.square == pytest.approx(exact.square, rel=1e-6)
    assert sketched.fourth == pytest.approx(exact.fourth, rel=0.05)
    assert sketched.s[0] == pytest.approx(float(exact.s[0]), rel=0.02)
    again = spectrum(noise, 8, 1, 0)
    assert torch.equal(again.s, sketched.s)
    assert again.fourth == sketched.fourth


def test_an_update_of_the_largest_weights_alone(tmp_path, matrices):
    def largest(u, s, v):
        a = (u * s @ v.T).to(torch.bfloat16).double().abs()
        return 0.01 * (a > a.flatten().kthvalue(2160).values)  # 240 of 2400, fewer where magnitudes tie

    found = measured(tmp_path, matrices, largest)
    assert found["update_on_largest.share"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
def test_sparsity_in_bfloat16_is_that_of_the_files_bytes(tmp_path, stored):
    """The oracle reads the files without any library: of float32 the upper halves after rounding."""
    generator = torch.Generator().manual_seed(2)
    a = torch.randn(50, 30, generator=generator).to(stored)
    b = a.clone()
    b[:, 3:6] += torch.tensor(1e-4 if stored == torch.float32 else 0.5, dtype=stored)
    b[0, 0] = -0.0
    a[0, 0] = 0.0
    paths = [folder(tmp_path / n, {NAME.format(0): t.to(stored)}) for n, t in zip("ab", (a, b), strict=True)]
    bits = []
    for path in paths:
        raw = (path / "model-0.safetensors").read_bytes()
        body = raw[8 + int.from_bytes(raw[:8], "little") :]
        if stored == torch.bfloat16:
            bits.append(np.frombuffer(body, "<u2"))
        else:  # to nearest, ties to even
            whole = np.frombuffer(body, "<u4").astype(np.uint64)
            bits.append(((whole + 0x7FFF + ((whole >> 16) & 1)) >> 16).astype(np.uint16))
    same = float((bits[0] == bits[1]).mean())
    table = measure(*map(Folder, paths), EXACT).table().to_pandas()
    row = table[(table["measure"] == "update_sparsity") & (table["part"] == "")]
    assert row[row["statistic"] == "bf16"]["value"].iloc[0] == same
    moved = 3 / 30
    assert row[row["statistic"] == "stored"]["value"].iloc[0] == pytest.approx(1 - moved)
    assert (same < 1 - moved) if stored == torch.bfloat16 else (same > 1 - moved)


def test_weights_in_double_precision_are_compared_as_stored(tmp_path):
    a = torch.ones(4, 5, dtype=torch.float64)
    b = a.clone()
    b[0] += 1e-12
    paths = [folder(tmp_path / name, {NAME.format(0): t}) for name, t in (("a", a), ("b", b))]
    table = measure(*map(Folder, paths), EXACT).table().to_pandas()
    stored = table[(table["statistic"] == "stored") & (table["part"] == "")]
    assert stored["value"].iloc[0] == pytest.approx(3 / 4)


@pytest.mark.parametrize("settings", [EXACT, SKETCHED], ids=["exact", "sketched"])
def test_a_matrix_of_zeros_changes_nothing_of_the_others(tmp_path, matrices, settings):
    update = lambda u, s, v: 0.1 * u[:, :TOP] @ v[:, 1 : TOP + 1].T  # noqa: E731
    u, s, v = matrices[2]
    among = measured(tmp_path, [*matrices[:2], (u, 0 * s, v)], update, settings)
    (tmp_path / "other").mkdir()
    alone = measured(tmp_path / "other", matrices[:2], update, settings)
    names = {name for name in alone if name.startswith(("singular_values", "subspace_", "principal_"))}
    assert len(names) == 10
    assert {name: among[name] for name in names} == pytest.approx({name: alone[name] for name in names})


def small(generator, rows=12, head=True):
    """A model of two layers, with names as a causal model has them."""
    names = {"model.embed_tokens.weight": (rows, 8), "model.norm.weight": (8,)}
    for i in range(2):
        names |= {
            f"model.layers.{i}.input_layernorm.weight": (8,),
            f"model.layers.{i}.self_attn.q_proj.weight": (8, 8),
            f"model.layers.{i}.self_attn.q_norm.weight": (4,),
            f"model.layers.{i}.mlp.up_proj.weight": (16, 8),
        }
    if head:
        names["lm_head.weight"] = (rows, 8)
    return {name: torch.randn(shape, generator=generator) for name, shape in names.items()}


def test_shards_wrappers_and_precision_change_no_number(tmp_path):
    generator = torch.Generator().manual_seed(4)
    a, b = ({n: t.bfloat16() for n, t in small(generator).items()} for _ in range(2))
    bare = {name.removeprefix("model."): tensor.float() for name, tensor in b.items()}
    left = folder(tmp_path / "a", a)
    usual, other = (
        measure(Folder(left), Folder(folder(tmp_path / name, tensors, shards)), EXACT).table()
        for name, tensors, shards in (("b", b, 1), ("c", bare, 3))
    )
    assert usual.equals(other)


def test_rows_are_by_layer_and_kind_and_tensor(tmp_path):
    generator = torch.Generator().manual_seed(4)
    a = small(generator)
    b = {n: t * (2 if "layers.1.mlp" in n else 1) for n, t in a.items()}
    paths = [folder(tmp_path / name, tensors) for name, tensors in (("a", a), ("b", b))]
    table = measure(*map(Folder, paths), EXACT).table().to_pandas()
    norms = table[table["measure"] == "update_norm"]
    by_place = {
        (r.part, None if np.isnan(r.layer_left) else int(r.layer_left)): r.value for r in norms.itertuples()
    }
    kinds = {part for part, _ in by_place if part and "." not in part}
    assert kinds == {"embedding", "attention", "mlp", "norm", "head"}
    assert by_place["mlp", 2] == by_place["mlp.up_proj.weight", 2] == pytest.approx(1)
    assert by_place["mlp", 1] == by_place["attention", 2] == by_place["embedding", 0] == 0
    parts = [a[f"model.layers.{i}.mlp.up_proj.weight"].square().sum() for i in range(2)]
    assert by_place["mlp", None] == pytest.approx(float(parts[1] / sum(parts)) ** 0.5, rel=1e-5)
    whole = norms[(norms["part"] == "") & norms["layer_left"].isna()].iloc[0]
    assert whole["ci_low"] <= whole["value"] <= whole["ci_high"]
    assert whole["n"] == 5  # two layers, the embedding, the last norm and the head
    assert "update_rank" not in set(table[table["part"] == "norm"]["measure"])  # which has no matrix
    ranks = table[(table["measure"] == "update_rank") & (table["part"] == "attention")]
    assert ranks.empty  # nothing moved there, so that there is no rank


def test_what_is_not_compared_is_named(tmp_path, caplog):
    generator = torch.Generator().manual_seed(4)
    a, b = small(generator), small(generator, rows=15)
    b["extra.weight"] = torch.zeros(3)
    a["packed.weight"] = b["packed.weight"] = torch.zeros(3, dtype=torch.int32)
    a["bent.weight"], b["bent.weight"] = torch.zeros(2, 3), torch.zeros(3, 2)
    paths = [folder(tmp_path / name, tensors) for name, tensors in (("a", a), ("b", b))]
    table = measure(*map(Folder, paths), EXACT).table().to_pandas()
    left_out = table[table["measure"] == "left_out"].set_index("part")["value"].to_dict()
    assert left_out == {
        "embed_tokens.weight": 24, "lm_head.weight": 24, "extra.weight": 3, "packed.weight": 3,
        "bent.weight": 6,
    }  # fmt: skip
    assert "embed_tokens.weight (24 weights), rows from 12 on" in caplog.text
    assert f"extra.weight (3 weights), missing in {paths[0]}" in caplog.text
    assert "packed.weight (3 weights), stored as I32" in caplog.text
    assert "bent.weight (6 weights), of different shapes: (2, 3), (3, 2)" in caplog.text


def test_a_tied_head_is_compared_with_an_untied_one(tmp_path):
    generator = torch.Generator().manual_seed(4)
    untied, tied = small(generator), small(generator, head=False)
    paths = [
        folder(tmp_path / "a", untied),
        folder(tmp_path / "b", tied, config={"tie_word_embeddings": True}),
    ]
    table = measure(*map(Folder, paths), EXACT).table().to_pandas()
    assert "left_out" not in set(table["measure"])
    before, after = untied["lm_head.weight"], tied["model.embed_tokens.weight"]
    head = table[(table["measure"] == "update_norm") & (table["part"] == "head")]["value"].iloc[0]
    assert head == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-5)


def test_three_dimensions_are_told(tmp_path, caplog):
    generator = torch.Generator().manual_seed(4)
    sides = [{"layers.0.mlp.experts.up": torch.randn(2, 3, 4, generator=generator)} for _ in range(2)]
    paths = [folder(tmp_path / name, tensors) for name, tensors in zip("ab", sides, strict=True)]
    table = measure(*map(Folder, paths), EXACT).table().to_pandas()
    assert "layers.0.mlp.experts.up has 3 dimensions: its rank and directions are left out" in caplog.text
    assert {"update_norm", "update_sparsity", "update_on_largest"} == set(table["measure"])
    assert "mlp" in set(table["part"])


def test_folders_without_weights_to_read_are_refused(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        Folder(tmp_path / "nowhere")
    (tmp_path / "adapter").mkdir()
    with pytest.raises(UserError, match="has no weights in safetensors"):
        share([Folder(tmp_path / "adapter")])
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    save_file({"x": torch.zeros(1)}, tmp_path / "adapter" / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"holds an adapter .* merge it first"):
        share([Folder(tmp_path / "adapter")])
    path = folder(tmp_path / "torn", {"a.weight": torch.zeros(1), "b.weight": torch.zeros(1)}, shards=2)
    (path / "model-1.safetensors").unlink()
    with pytest.raises(UserError, match=r"names model-1\.safetensors, which is not there"):
        share([Folder(path)])


def test_models_without_a_tensor_in_common_leave_all_out(tmp_path, caplog):
    """So a study of several pairs goes on, and the rows say why there is no number."""
    wide = folder(tmp_path / "wide", {NAME.format(0): torch.ones(4, 4)})
    narrow = folder(tmp_path / "narrow", {NAME.format(0): torch.ones(4, 2)})
    table = measure(Folder(wide), Folder(narrow), EXACT).table().to_pandas()
    assert table[["measure", "part", "value"]].to_numpy().tolist() == [["left_out", NAME.format(0), 16.0]]
    assert "have no tensor in common" in caplog.text
    assert "of different shapes" in caplog.text


@pytest.mark.parametrize(
    ("name", "kind", "layer"),
    [
        ("layers.3.self_attn.k_norm.weight", "norm", 4),
        ("h.0.attn.c_attn.bias", "attention", 1),
        ("h.0.ln_1.weight", "norm", 1),
        ("layers.11.mlp.experts.7.up_proj.weight", "mlp", 12),
        ("wte.weight", "embedding", 0),
        ("lm_head.weight", "head", None),
        ("norm.weight", "norm", None),
        ("layers.0.rotary.inv_freq", "other", 1),
        ("visual.blocks.0.attn.qkv.weight", "other", None),
    ],
)
def test_kinds_and_layers_follow_from_names(name, kind, layer):
    assert (Shared(name, (1,)).kind, Shared(name, (1,)).layer) == (kind, layer)


def test_the_command_writes_tidy_rows(tmp_path):
    generator = torch.Generator().manual_seed(4)
    a, b = small(generator), small(generator)
    left, right = (folder(tmp_path / name, tensors) for name, tensors in (("a", a), ("b", b)))
    words = ["--left", left, "--right", right, "--measures", tmp_path / "weights.parquet"]
    words += ["--store", tmp_path / "store", "--top", "2"]
    assert main(["hrsa_weights", *map(str, words)]) == 0
    table = pq.read_table(tmp_path / "weights.parquet")
    assert table.schema == SCHEMA
    estimands = json.loads(table.schema.metadata[b"estimands"]) if table.schema.metadata else {}
    assert "update_norm.norm" in estimands


def random_like(tensors, generator):
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in tensors.items()}


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_what_is_left_of_an_update(tmp_path, kept):
    """Training moves both sides alike and takes a planted share of the update back."""
    generator = torch.Generator().manual_seed(9)
    p = small(generator, rows=200)
    d, moved, noise = (random_like(p, generator) for _ in range(3))
    q = {n: p[n] + d[n] for n in p}
    e = {n: p[n] + moved[n] for n in p}
    f = {n: q[n] + moved[n] - (1 - kept) * d[n] for n in p}
    other = {n: e[n] + noise[n] for n in p}
    folders = [folder(tmp_path / str(i), tensors, 1 + i % 2) for i, tensors in enumerate((p, q, e, f, other))]
    words = [w for name, path in zip(
        ("--left-origin", "--right-origin", "--left", "--right", "--left-other"), folders, strict=True
    ) for w in (name, path)]  # fmt: skip
    words += ["--measures", tmp_path / "survival.parquet", "--store", tmp_path / "store"]
    assert main(["hrsa_survival", *map(str, words)]) == 0
    table = pq.read_table(tmp_path / "survival.parquet").to_pandas()
    whole = table[(table["part"] == "") & table["layer_left"].isna()].set_index(["measure", "statistic"])
    assert whole.loc[("survival", "coefficient"), "value"] == pytest.approx(kept, abs=1e-5)
    if kept:
        assert whole.loc[("survival", "explained"), "value"] == pytest.approx(1, abs=1e-5)
    by_layer = table[(table["measure"] == "survival") & (table["statistic"] == "coefficient")]
    assert len(by_layer) == 1 + 5 + 3 + 7 + 11  # whole, kinds, layers, kinds of a layer, tensors
    np.testing.assert_allclose(by_layer["value"], kept, atol=1e-5)
    floor = whole.loc[("survival", "floor")]
    assert 0 == floor["ci_low"] < floor["value"] < 0.1
    # Both sides' trainings: U − (1 − kept) D against U, of equal sizes and without a common direction.
    cosine = 1 / (1 + (1 - kept) ** 2) ** 0.5
    assert whole.loc[("update_cosine", "training"), "value"] == pytest.approx(cosine, abs=0.1)
    assert whole.loc[("update_cosine", "seeds"), "value"] == pytest.approx(0.5**0.5, abs=0.1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_named(tmp_path, value, capsys):
    tensors = small(torch.Generator().manual_seed(9))
    broken = {n: t.clone() for n, t in tensors.items()}
    broken["model.layers.1.mlp.up_proj.weight"][3, 2] = value
    left, right = folder(tmp_path / "a", tensors), folder(tmp_path / "b", broken)
    pairs = {
        "hrsa_weights": ["--left", left, "--right", right],
        "hrsa_survival": ["--left-origin", left, "--right-origin", left, "--left", left, "--right", right],
    }
    for name, words in pairs.items():
        words += ["--measures", tmp_path / "rows.parquet", "--store", tmp_path / "store"]
        assert main([name, *map(str, words)]) == 1
        assert f"{right} has weights that are NaN or infinite in model.layers.1.mlp.up_proj.weight" in (
            capsys.readouterr().err
        )


def test_one_seed_alone_has_no_floor(tmp_path):
    generator = torch.Generator().manual_seed(9)
    folders = [folder(tmp_path / name, small(generator)) for name in "pqef"]
    words = [w for name, path in zip(
        ("--left-origin", "--right-origin", "--left", "--right"), folders, strict=True
    ) for w in (name, path)]  # fmt: skip
    words += ["--left-other", "--measures", tmp_path / "survival.parquet", "--store", tmp_path / "store"]
    assert main(["hrsa_survival", *map(str, words)]) == 0
    table = pq.read_table(tmp_path / "survival.parquet").to_pandas()
    assert set(table["statistic"]) == {"coefficient", "explained", "training"}
