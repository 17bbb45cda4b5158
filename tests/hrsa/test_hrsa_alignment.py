"""Which rows of two files are compared: equal tokens, equal characters, or equal places."""

import h5py
import numpy as np
import pytest

from realign.artifacts.command import UserError
from realign.hrsa import compare, reading
from realign.hrsa.alignment import align
from realign.hrsa.reading import StateFile, read_all
from realign.states.capture import layer_names

TEXTS = np.array([0, 0, 0, 0, 1, 1, 1])
FACTS = {
    "text_tokens": np.array([4, 3], np.int32),
    "offsets": np.array([(0, 2), (2, 5), (5, 5), (5, 9), (0, 4), (4, 6), (6, 7)], np.int32),
}


@pytest.fixture
def write(tmp_path, make_file):
    def write(name, values, text_index=TEXTS, names=("first", "second"), **replace):
        made = make_file(tmp_path / f"{name}.h5", values, text_index, **(FACTS | replace))
        with h5py.File(made, "r+") as file:
            file.create_dataset("text_ids", data=list(names), dtype=h5py.string_dtype())
        return made

    return write


@pytest.fixture
def values(random):
    return random.standard_normal((2, 7, 3))


def aligned(a, b, alignment="ids"):
    """Each side's last layer at the rows that are compared."""
    with StateFile(a) as left, StateFile(b) as right:
        return [read_all(side, 1) for side in align(left, right, alignment)]


def with_change(array, place, value):
    changed = np.array(array)
    changed[place] = value
    return changed


def test_equal_files_align_in_every_way(write, values):
    a, b = write("a", values), write("b", -values)
    for alignment, rows in (("ids", np.arange(7)), ("counts", np.arange(7)), ("offsets", [0, 1, 3, 4, 5, 6])):
        left, right = aligned(a, b, alignment)
        np.testing.assert_array_equal(left, values[1][rows])  # a token without characters has no offsets
        np.testing.assert_array_equal(right, -values[1][rows])


def test_the_first_difference_is_named(write, values):
    a = write("a", values)
    ids = np.arange(7) * 7 % 11
    places = np.array([0, 1, 2, 3, 0, 1, 2])
    for change, said, excused in (
        ({"token_ids": with_change(ids, 5, 99)},
         r"row 5 is token 2 \(text 1, 'second'\), in the second, row 5 is token 99 \(1 diff.*`alignment: off",
         ("counts",)),
        ({"position": with_change(places, 2, 7)}, "row 2 is at position 2 .*token selection", ()),
        ({"text_tokens": np.array([4, 5])}, "text 1 has 3 tokens, in the second, text 1 has 5", ("offsets",)),
    ):  # fmt: skip
        other = write("b", values, **change)
        for alignment in {"ids", "counts"} - set(excused):
            with pytest.raises(UserError, match=said):
                aligned(a, other, alignment)
        for alignment in excused:
            aligned(a, other, alignment)
        other.unlink()
    other = write("b", values, np.array([0, 0, 0, 1, 1, 1, 1]))
    with pytest.raises(UserError, match=r"row 3 belongs to text 0 .*row 3 belongs to text 1"):
        aligned(a, other)
    with pytest.raises(UserError, match=r"keeps 7 rows and .* 6; extract both"):
        aligned(a, write("c", values[:, :6], TEXTS[:6]), "counts")


def test_tokens_of_other_tokenizers_meet_where_they_are_the_same_characters(write, values, random):
    # Text 0 is cut as ab|cde||fghi and as ab|c|de|fghi, text 1 as abcd|ef|g and as abcd|e|f|g, where a
    # character of the right one's `f` fell into two tokens.
    other = random.standard_normal((2, 9, 5))
    spans = [(0, 2), (2, 3), (3, 5), (5, 9), (0, 4), (4, 5), (5, 6), (5, 6), (6, 7)]
    texts = np.repeat([0, 1], [4, 5])
    a = write("a", values)
    b = write("b", other, texts, offsets=np.array(spans, np.int32), text_tokens=np.array([4, 5]))
    left, right = aligned(a, b, "offsets")
    np.testing.assert_array_equal(left, values[1][[0, 3, 4, 6]])
    np.testing.assert_array_equal(right, other[1][[0, 3, 4, 8]])
    d = compare(a, b, alignment="offsets", families=["linear"])
    assert d[d.statistic == "tokens"].value.item() == 4
    assert {"cka"} <= set(d.measure)
    with pytest.raises(UserError, match="text 1 has 3 tokens"):
        aligned(a, b)
    with pytest.raises(UserError, match="are of different texts"):  # though the same characters are tokens
        aligned(a, write("e", values, names=("first", "third")), "offsets")
    nothing = write("c", values, offsets=FACTS["offsets"] + 90)
    with pytest.raises(UserError, match="share no token"):
        aligned(a, nothing, "offsets")
    silent = write("d", values, offsets=np.full((7, 2), -1))
    with pytest.raises(UserError, match=r"d\.h5 does not say which characters"):
        aligned(a, silent, "offsets")


def test_pooled_states_align_by_their_texts(write, random):
    values, texts = random.standard_normal((2, 2, 3)), np.arange(2)
    a = write("a", values, texts, pooled=True)
    longer = write("b", values, texts, pooled=True, position=np.array([4, 8]), token_ids=np.array([1, 2]))
    aligned(a, longer, "offsets")
    with pytest.raises(UserError, match="row 0 is at position"):
        aligned(a, longer, "counts")
    with pytest.raises(UserError, match="are of different texts"):
        aligned(a, write("c", values, texts, ("first", "third"), pooled=True), "offsets")
    with pytest.raises(UserError, match=r"holds text states and .* token states"):
        aligned(a, write("d", values, texts), "ids")


@pytest.fixture
def kept_before_norm(tmp_path, make_file):
    """Writes a file that names its layers, with or without the last block before the final norm."""
    import h5py

    def write(name, layers, before_norm):
        names = layer_names(layers.shape[0] - 1 - before_norm, before_norm)
        path = make_file(tmp_path / f"{name}.h5", layers, np.repeat(np.arange(30), 8))
        with h5py.File(path, "r+") as file:
            file.attrs["layer_names"] = names
        return path

    return write


def test_the_last_block_counts_once_in_means(kept_before_norm, draw):
    left = draw(layers=4)
    right = left[:, :, ::-1] + draw(layers=4)
    right[2] = left[2]
    a, b = (kept_before_norm(n, v, True) for n, v in zip("ab", (left, right), strict=True))
    found = compare(a, b, families=["linear", "neighbours"], k=(5,)).fillna({"k": 0})
    for measure in ("cka", "cka_debiased", "correlation", "knn_overlap"):
        rows = found[(found.measure == measure) & (found.layer_left == found.layer_right)]
        by_layer = rows[rows.statistic.isin(["value", "mean"])].set_index("layer_left").value
        means = found[(found.measure == measure) & (found.statistic == "mean_over_layers")]
        means = means.set_index("preset").value
        assert means[""] == pytest.approx(by_layer[[1, 3]].mean())
        assert means["published"] == pytest.approx(by_layer[[0, 1, 3]].mean())


def test_files_of_which_one_alone_keeps_a_layer_before_the_norm_are_refused(kept_before_norm, draw):
    with_it, without = (
        kept_before_norm("a", draw(layers=4), True),
        kept_before_norm("b", draw(layers=3), False),
    )
    for alignment in ("ids", "counts", "offsets"):
        with pytest.raises(UserError, match=r"only one of .* before the final norm"):
            aligned(with_it, without, alignment)


def test_rows_with_gaps_are_read_as_if_one_by_one(tmp_path, random, make_file, monkeypatch):
    values = random.standard_normal((2, 200, 3))
    path = make_file(tmp_path / "a.h5", values, np.repeat(np.arange(20), 10))
    wanted = [slice(3, 5), slice(7, 8), slice(7, 9), slice(60, 61), slice(62, 90), slice(1, 2)]
    rows = np.concatenate([np.arange(s.start, s.stop) for s in wanted])
    for gap, most in ((0, 1), (1 << 10, 1 << 20), (100, 200)):
        monkeypatch.setattr(reading, "GAP_BYTES", gap)
        monkeypatch.setattr(reading, "WINDOW_BYTES", most)
        with StateFile(path) as file:
            np.testing.assert_array_equal(file.read(1, wanted), values[1][rows])


def marked(path, **attributes):
    with h5py.File(path, "r+") as file:
        file.attrs.update(attributes)
    return path


def test_files_of_other_texts_or_of_another_making_are_refused(write, values, caplog):
    a = marked(write("a", values), corpus="docs", corpus_hash="1", special_tokens="true")
    with pytest.raises(UserError, match=r"not of the same texts \(corpora docs and sums\)"):
        aligned(a, marked(write("b", values), corpus="sums", corpus_hash="2"))
    with pytest.raises(UserError, match="differ in special_tokens: true and false"):
        aligned(a, marked(write("c", values), special_tokens="false"))
    assert "attention" not in caplog.text
    marked(a, attention="causal")
    aligned(a, marked(write("d", values), attention="bidirectional"))
    assert "is of causal attention" in caplog.text


def test_states_of_a_gpu_and_of_a_cpu_are_not_compared_unless_their_precision_is_equal(write, values, caplog):
    a = marked(write("a", values), compute="bfloat16", storage="float32")
    with pytest.raises(UserError, match=r"in bfloat16 and .* in float32: .* set states\.compute"):
        aligned(a, marked(write("b", values), compute="float32"))
    assert "stored" not in caplog.text
    aligned(a, marked(write("c", values), compute="bfloat16", storage="float16"))
    assert "is stored in float32" in caplog.text
