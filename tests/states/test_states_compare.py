"""Files are compared only if their rows stand for the same tokens; the error names where they part."""

import shutil

import h5py
import pytest

from realign.artifacts.command import UserError
from realign.states.compare import check_comparable
from realign.states.reader import StatesFile


@pytest.fixture(scope="module")
def files(tmp_path_factory, extract, backbone, corpus):
    return extract(tmp_path_factory.mktemp("compare"), backbone, corpus, tokens={"count": 120})


def changed(file, folder, change):
    copy = folder / f"changed-{file.name}"
    shutil.copy(file, copy)
    with h5py.File(copy, "r+") as content:
        change(content)
    return copy


def check(left, right, alignment="ids"):
    with StatesFile(left) as a, StatesFile(right) as b:
        check_comparable(a, b, alignment)


def test_two_models_with_one_tokenizer(tmp_path, extract, files, sibling, corpus):
    other = extract(tmp_path, sibling, corpus, tokens={"count": 120}, attention="causal")
    for a, b in zip(files, other, strict=True):
        check(a, b)


def test_another_token_is_named(tmp_path, files):
    def other_token(content):
        content["token_ids"][17] += 1

    other = changed(files[0], tmp_path, other_token)
    with pytest.raises(UserError, match=r"row 17 is token \d+ \(text 't\d+', position \d+\).*differently"):
        check(files[0], other)
    check(files[0], other, "counts")


def test_another_position_is_named(tmp_path, files):
    def other_position(content):
        content["position"][5] += 1

    for alignment in ("ids", "counts"):
        with pytest.raises(UserError, match="row 5 is at position"):
            check(files[0], changed(files[0], tmp_path, other_position), alignment)


def test_another_length_of_a_text_is_named(tmp_path, files):
    def longer(content):
        content["text_tokens"][3] += 1

    with pytest.raises(UserError, match="text 3 has"):
        check(files[0], changed(files[0], tmp_path, longer), "counts")


def test_another_selection_is_named(tmp_path, extract, files, backbone, corpus):
    other = extract(tmp_path, backbone, corpus, tokens={"count": 120}, seed=1)[0]
    with pytest.raises(UserError, match=r"(row \d+ (is at position|belongs)).*seed"):
        check(files[0], other)
    fewer = extract(tmp_path / "fewer", backbone, corpus, tokens={"count": 90})[0]
    with pytest.raises(UserError, match="keeps 120 rows"):
        check(files[0], fewer)


def test_other_ids_of_the_same_characters(tmp_path, files):
    def other_ids(content):
        content["token_ids"][:] = content["token_ids"][:] + 1000

    def other_characters(content):
        content["offsets"][9, 1] += 1

    renumbered = changed(files[0], tmp_path, other_ids)
    check(files[0], renumbered, "offsets")
    with pytest.raises(UserError, match="row 0 is token"):
        check(files[0], renumbered, "ids")
    with pytest.raises(UserError, match=r"row 9 \(text 't\d+'.* is \d+ to \d+ in the first"):
        check(files[0], changed(files[0], tmp_path, other_characters), "offsets")
    with pytest.raises(UserError, match="does not say which characters"):
        check(files[1], files[1], "offsets")


def test_pooled_texts_with_other_tokens_are_named(tmp_path, files):
    def other_text(content):
        content["token_ids"][2] += 1

    with pytest.raises(UserError, match="row 2 is token"):
        check(files[1], changed(files[1], tmp_path, other_text))
    with pytest.raises(UserError, match="pooled"):
        check(*files)


def test_what_is_no_states_file_is_refused(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(UserError, match="not an HDF5 file"):
        StatesFile(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as content:
        content.attrs["format"] = "something"
    with pytest.raises(UserError, match="something"):
        StatesFile(tmp_path / "other.h5")
    with pytest.raises(UserError, match="no such file"):
        StatesFile(tmp_path / "none.h5")


def test_blocks_are_the_layer(files):
    with StatesFile(files[0]) as states:
        whole = states.read(2)
        parts = list(states.blocks(2, size=50))
        assert [len(p) for p in parts] == [50, 50, 20]
        assert (sum(p.sum() for p in parts)) == pytest.approx(whole.sum())
        assert (states.read(2, 10, 20) == whole[10:20]).all()
        with pytest.raises(IndexError):
            states.read(4)
