"""The tokenizer, packing, and which text is held out."""

import itertools

import pytest
import torch
from backbones_help import sums
from hypothesis import given, settings
from hypothesis import strategies as st

from realign.artifacts.command import UserError
from realign.backbones.corpus import Text, read_texts
from realign.backbones.layout import load_tokenizer
from realign.backbones.model import load_model
from realign.backbones.packing import IGNORED, Document, Stream, pack, problem_documents, text_documents
from realign.backbones.tokenizer import train_tokenizer
from realign.study.backbones import Prompt, TokenizerRecipe
from realign.text.problems import parse_problem


@pytest.fixture(scope="module")
def tokenizer(base):
    return load_tokenizer(base)


@given(st.text(max_size=60))
@settings(deadline=None, max_examples=60)
def test_any_text_comes_back(tokenizer_for_all, text):
    ids = tokenizer_for_all(text, add_special_tokens=False)["input_ids"]
    assert tokenizer_for_all.decode(ids) == text


@pytest.fixture(scope="module")
def tokenizer_for_all():
    numbers = [f"{i} 12345 999 12345" for i in range(200)]
    return train_tokenizer([*numbers, "caf\u00e9 the axis, the axis"], TokenizerRecipe(vocabulary=320), 64)


def test_each_digit_is_a_token_however_often_numbers_repeat(tokenizer_for_all):
    pieces = [tokenizer_for_all.decode([i]) for i in tokenizer_for_all("sum 12345 and 999=0")["input_ids"]]
    assert [p for p in pieces if any(c.isdigit() for c in p)] == list("12345") + list("999") + ["0"]
    assert all(sum(c.isdigit() for c in token) <= 1 for token in tokenizer_for_all.get_vocab())


def test_the_saved_tokenizer_is_the_same(tokenizer_for_all, tmp_path):
    tokenizer_for_all.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    text = "the axis 12 caf\u00e9\n\n  x"
    assert again(text)["input_ids"] == tokenizer_for_all(text)["input_ids"]
    assert (again.eos_token, again.pad_token) == ("<|endoftext|>", "<|pad|>")
    assert again.pad_token_id != again.eos_token_id


@given(st.lists(st.integers(1, 16), min_size=1, max_size=40))
@settings(deadline=None)
def test_packing_loses_and_repeats_nothing(sizes):
    documents = [Document(tuple(range(100 * i, 100 * i + n))) for i, n in enumerate(sizes, 1)]
    blocks = pack(documents, 16, padding=7)
    found = []
    for tokens, positions in zip(blocks.tokens.tolist(), blocks.positions.tolist(), strict=True):
        starts = [i for i, p in enumerate(positions) if p == 0] + [len(tokens)]
        found += [tuple(tokens[a:b]) for a, b in itertools.pairwise(starts)]
    kept = sorted(d for d in found if set(d) != {7})
    assert kept == sorted(d.tokens for d in documents)
    assert blocks.targets == sum(n - 1 for n in sizes)  # a document's first token is never predicted


def test_silent_tokens_carry_no_loss():
    blocks = pack([Document((1, 2, 3, 4), silent=2), Document((5, 6))], 8, padding=0)
    assert blocks.labels.tolist() == [[IGNORED, IGNORED, 3, 4, IGNORED, 6, IGNORED, IGNORED]]


def test_packed_documents_do_not_see_each_other(base, tokenizer):
    """The packed logits of a document equal those of the document alone."""
    model = load_model(base).eval()
    documents = list(
        text_documents(["the sum of each axis", "an array with one", "returns 1 + 2"], tokenizer, 32)
    )
    blocks = pack(documents, 64, tokenizer.pad_token_id)
    assert len(blocks) == 1
    with torch.no_grad():
        packed = model(input_ids=blocks.tokens, position_ids=blocks.positions, use_cache=False).logits[0]
        at = 0
        for document in documents:
            alone = model(input_ids=torch.tensor([document.tokens])).logits[0]
            assert torch.allclose(packed[at : at + len(alone)], alone, atol=1e-5)
            at += len(alone)


def test_prompts_and_traces_are_tokenized_apart(tokenizer):
    """As they are when an answer is sampled, so that training and sampling meet at the same tokens."""
    (problem,) = [parse_problem(row) for row in sums(1, 9)]
    (document,) = problem_documents([problem], tokenizer, 64, Prompt(), silent_prompt=True)
    prompt = tokenizer(problem.prompt)["input_ids"]
    assert list(document.tokens[: document.silent]) == prompt
    assert document.tokens[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(document.tokens[document.silent : -1]) == problem.trace


def test_an_instruction_stands_before_each_question(tokenizer):
    (problem,) = [parse_problem(row) for row in sums(1, 9)]
    asked = Prompt(instruction="Work it out. ")
    (document,) = problem_documents([problem], tokenizer, 128, asked, silent_prompt=True)
    assert tokenizer.decode(document.tokens[: document.silent]) == "Work it out. " + problem.prompt


def test_a_chat_prompt_without_a_template_is_refused(tokenizer):
    (problem,) = [parse_problem(row) for row in sums(1, 9)]
    with pytest.raises(UserError, match="no chat template"):
        list(problem_documents([problem], tokenizer, 64, Prompt(form="chat"), silent_prompt=True))


def test_a_stream_goes_through_everything_in_each_epoch():
    blocks = pack([Document((i, i)) for i in range(1, 11)], 2, padding=0)
    stream, again = Stream(blocks, 3, "x"), Stream(blocks, 3, "x")
    epochs = [torch.cat([stream.batch(5 * e + s, 2).tokens[:, 0] for s in range(5)]) for e in range(2)]
    assert all(sorted(e.tolist()) == list(range(1, 11)) for e in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()
    assert again.batch(7, 2).tokens.equal(stream.batch(7, 2).tokens)  # a resumed run jumps right in


def test_nothing_to_train_on_is_said():
    with pytest.raises(UserError, match="no problems is left to train on"):
        Stream(pack([], 8, 0), 0, "problems")


def test_held_out_text_is_a_stable_share(corpora):
    texts = [Text(f"doc{i}", "x") for i in range(4000)]
    small, large = ({t.id for t in texts if t.is_held_out(share)} for share in (0.05, 0.1))
    assert 0.04 < len(small) / len(texts) < 0.06
    assert small < large  # raising the share keeps what was held out
    with_bad = corpora.parent / "bad.jsonl"
    with_bad.write_text('{"id": "a", "text": "x"}\n{"id": "b"}\n')
    with pytest.raises(UserError, match=r"bad.jsonl, line 2: 'text' is missing"):
        list(read_texts(with_bad))
