"""Pairs: what is refused, in which words, and what relaxes it."""

import json
import shutil

import pytest
from backbones_help import MICRO, make, pretraining, weights, write_lines

from realign.artifacts.command import UserError
from realign.backbones.layout import load_tokenizer
from realign.backbones.pair import LONGEST, cuts
from realign.study.pairs import Pair


@pytest.fixture(scope="module")
def probes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probes")
    texts = ["the sum of each axis", "returns 12 values, one per row"]
    return [write_lines(folder / "docs.jsonl", [{"id": str(i), "text": t} for i, t in enumerate(texts)])]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory, corpora):
    """A model of the same shape whose tokenizer was trained with fewer merges."""
    folder = tmp_path_factory.mktemp("stranger")
    recipe = MICRO | {"tokenizer": {"vocabulary": 300, "min_frequency": 40}, "optimisation": {"steps": 1}}
    texts = write_lines(folder / "t.jsonl", [{"id": f"o{i}", "text": "zzz yyy xxx " * 9} for i in range(30)])
    make("pretrain", recipe, pretraining(corpora) | {"text": texts}, folder)
    return folder / "model"


def check(left, right, probes, place, **settings):
    names = {"left_name": "base", "right_name": "tuned", "kind": "rlvr"}
    given = {"left": left, "right": right, "corpora": probes}
    return json.loads((make("check_pair", names | settings, given, place) / "report").read_text())


def test_a_sound_pair_is_written_down(base, probes, tmp_path):
    found = check(base, base, probes, tmp_path, tags=["prolonged"])
    assert found == {
        "left": "base", "right": "tuned", "kind": "rlvr", "tags": ["prolonged"], "alignment": "ids",
        "architecture": "qwen3", "width": 16, "layers": [2, 2], "differing": [], "texts": 2,
        "same_ids": True, "same_offsets": True, "shared_tokens": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("difference", "key", "value", "words"),
    [
        ("width", "hidden_size", 32, "hidden_size is 16 on the left and 32 on the right"),
        ("architecture", "model_type", "llama", "model_type is 'qwen3' on the left and 'llama' on the right"),
        ("depth", "num_hidden_layers", 3, "num_hidden_layers is 2 on the left and 3 on the right"),
    ],
)
def test_another_shape_is_refused_unless_the_pair_allows_it(
    base, probes, tmp_path, difference, key, value, words
):
    other = tmp_path / "other"
    shutil.copytree(base, other)
    config = json.loads((other / "config.json").read_text()) | {key: value}
    config.pop("layer_types", None)  # transformers compares it with the number of layers
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=words) as error:
        check(base, other, probes, tmp_path / "made")
    assert f"`allow: [{difference}]` of this pair" in str(error.value)
    assert Pair(left="a", right="b", kind="rlvr", allow=[difference]).allow == (difference,)
    check(base, other, probes, tmp_path / "ok", allow=[difference])


def test_widths_are_compared_whatever_an_architecture_calls_them(base, probes, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = load_tokenizer(base)
    ends = dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.eos_token_id)
    for name, width, layers in (("small", 16, 2), ("wide", 32, 2), ("deep", 16, 3)):
        shape = GPT2Config(vocab_size=len(tokenizer), n_embd=width, n_layer=layers, n_head=2, **ends)
        GPT2LMHeadModel(shape).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    found = check(tmp_path / "small", tmp_path / "small", probes, tmp_path / "same")
    assert (found["width"], found["layers"]) == (16, [2, 2])
    for other, words in (
        ("wide", "hidden_size is 16 .* and 32"),
        ("deep", "num_hidden_layers is 2 .* and 3"),
    ):
        with pytest.raises(UserError, match=words):
            check(tmp_path / "small", tmp_path / other, probes, tmp_path / f"made-{other}")


def test_the_first_difference_and_what_compares_such_tokenizers_are_named(base, stranger, probes, tmp_path):
    text = json.loads(probes[0].read_text().splitlines()[0])["text"]
    a, b = (load_tokenizer(m)(text)["input_ids"] for m in (base, stranger))
    at = next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    with pytest.raises(UserError) as error:
        check(base, stranger, probes, tmp_path / "ids")
    words = str(error.value)
    assert f"in docs, text 1, token {at} is {a[at]} (" in words
    assert f"and {b[at]} (" in words
    assert "`hrsa.alignment: offsets` compares the " in words
    assert "hrsa.alignment: counts" not in words  # texts have other numbers of tokens


def test_tokens_are_matched_as_comparisons_match_them(base, stranger, probes, tmp_path):
    found = check(base, stranger, probes, tmp_path / "offsets", alignment="offsets")
    assert (found["same_ids"], found["same_offsets"]) == (False, False)
    assert 0 < found["shared_tokens"] < 1
    with pytest.raises(UserError, match=r"do not cut texts alike: .* `hrsa\.alignment: offsets` compares"):
        check(base, stranger, probes, tmp_path / "counts", alignment="counts")


def test_random_weights_in_the_same_shape_make_a_pair(base, probes, tmp_path):
    place = make("untrained", {"seed": 0}, {"like": base}, tmp_path / "untrained")
    other = make("untrained", {"seed": 1}, {"like": base}, tmp_path / "other")
    assert check(base, place / "model", probes, tmp_path / "pair")["same_ids"]
    ours, theirs, more = (weights(m) for m in (base, place / "model", other / "model"))
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    matrices = [k for k, v in ours.items() if v.ndim == 2]
    assert not any(ours[k].equal(theirs[k]) or theirs[k].equal(more[k]) for k in matrices)


def test_a_text_of_many_megabytes_is_cut_at_its_beginning_alone(base):
    lengths = []

    def tokenizer(text, **_):
        lengths.append(len(text))
        return {"input_ids": [1], "offset_mapping": [(0, 1)]}

    assert cuts(tokenizer, tokenizer, {"docs": ["word " * 2_000_000]}).texts == 1
    assert lengths == [LONGEST, LONGEST]
