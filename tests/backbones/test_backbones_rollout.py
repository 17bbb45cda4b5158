"""Sampling: against transformers' own generation, whatever the padding, and from the right distribution."""

import pytest
import torch

from realign.backbones.layout import load_tokenizer
from realign.backbones.model import load_model
from realign.backbones.rollout import Answer, Batch, Sampler

PROMPTS = ["What is 1 + 2?\n", "the sum\n", "What is 14 + 25 and the sum of each axis?\n"]


@pytest.fixture(scope="module")
def model(base):
    return load_model(base).eval()


@pytest.fixture(scope="module")
def tokenizer(base):
    return load_tokenizer(base)


@pytest.fixture(scope="module")
def prompts(tokenizer):
    return [tuple(tokenizer(text)["input_ids"]) for text in PROMPTS]


def sampler(tokenizer, **changes) -> Sampler:
    given = {"ends": (tokenizer.eos_token_id,), "padding": tokenizer.pad_token_id, "max_new_tokens": 12}
    return Sampler(**(given | changes))


def test_greedy_answers_are_those_of_generate(model, tokenizer, prompts):
    """Each prompt by itself through transformers; all at once, padded, through ours."""
    ours = sampler(tokenizer, temperature=0.0).sample(model, prompts, 1, seed=0)
    for prompt, (answer,) in zip(prompts, ours, strict=True):
        whole = model.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=12, pad_token_id=tokenizer.pad_token_id
        )
        assert list(answer.tokens) == whole[0, len(prompt) :].tolist()


def test_rows_that_end_leave_and_the_others_stay_right(model, tokenizer, prompts):
    """With many end tokens rows end at different times; what each says must not depend on the others."""
    ends = tuple(range(0, len(tokenizer), 3))
    together = sampler(tokenizer, temperature=0.0, ends=ends).sample(model, prompts * 3, 1, seed=0)
    for prompt, (answer,) in zip(prompts * 3, together, strict=True):
        ((alone,),) = sampler(tokenizer, temperature=0.0, ends=ends).sample(model, [prompt], 1, seed=0)
        assert answer == alone
        assert answer.ended == (answer.tokens[-1] in ends)
        assert not set(answer.tokens[:-1]) & set(ends)


def test_the_same_seed_gives_the_same_answers(model, tokenizer, prompts):
    first, again, other = (sampler(tokenizer).sample(model, prompts, 4, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other
    assert [len(group) for group in first] == [4, 4, 4]
    assert [group[0].prompt for group in first] == prompts


def test_samples_follow_the_model_s_distribution(model, tokenizer, prompts):
    draws = 4000
    (group,) = sampler(tokenizer, max_new_tokens=1, batch=draws).sample(model, prompts[:1], draws, seed=3)
    counts = torch.bincount(torch.tensor([a.tokens[0] for a in group]), minlength=len(tokenizer))
    with torch.no_grad():
        expected = torch.softmax(model(torch.tensor([prompts[0]])).logits[0, -1], -1)
    spread = (expected * (1 - expected) / draws).sqrt()
    assert ((counts / draws - expected).abs() < 5 * spread + 1e-3).all()
    assert counts.max() < draws  # it did sample


def test_log_probabilities_do_not_depend_on_company(model, tokenizer, prompts):
    """The batch that is learned from pads prompts left and answers right; each row is as if alone."""
    answers = [Answer(p, tuple(range(5, 5 + n)), True) for p, n in zip(prompts, (2, 5, 3), strict=True)]
    batch = Batch.of(answers, tokenizer.pad_token_id, torch.device("cpu"))
    with torch.no_grad():
        together = torch.log_softmax(model(**batch.inputs()).logits[:, :-1], -1)
        for row, answer in enumerate(answers):
            ids = torch.tensor([[*answer.prompt, *answer.tokens]])
            alone = torch.log_softmax(model(ids).logits[0, len(answer.prompt) - 1 : -1], -1)
            size = len(answer.tokens)
            assert torch.allclose(together[row, :size], alone, atol=1e-5)
            assert batch.tokens[row, :size].tolist() == list(answer.tokens)
            assert batch.answered[row].tolist() == [1.0] * size + [0.0] * (batch.width - size)
