"""GRPO's mathematics against a case worked by hand, finite differences, and known limits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from realign.backbones.grpo import Objective, group_advantages, kl_to_reference
from realign.backbones.logprobs import token_logprobs


def test_advantages_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0]])
    plain = group_advantages(rewards, scale=False)
    assert plain.tolist() == [[0.5, -0.5, -0.5, 0.5], [0.25, 0.25, 0.25, -0.75]]
    scaled = group_advantages(rewards)
    # the sample deviation of (1, 0, 0, 1) is sqrt(1/3), that of (1, 1, 1, 0) is 1/2
    assert scaled[0].tolist() == pytest.approx(
        [0.5 * math.sqrt(3), *[-0.5 * math.sqrt(3)] * 2, 0.5 * math.sqrt(3)], abs=1e-5
    )
    assert scaled[1].tolist() == pytest.approx([0.5, 0.5, 0.5, -1.5], abs=1e-5)


@given(st.lists(st.floats(0, 2, width=32), min_size=2, max_size=8), st.floats(-3, 3), st.floats(0.5, 4))
@settings(deadline=None, max_examples=50)
def test_advantages_ignore_shift_and_scale_of_rewards(values, shift, factor):
    rewards = torch.tensor([values], dtype=torch.float64)
    if float(rewards.std()) < 0.05:
        return
    moved = group_advantages(rewards * factor + shift)
    assert torch.allclose(moved, group_advantages(rewards), atol=1e-4)


def test_a_group_of_equals_teaches_exactly_nothing():
    rewards = torch.full((2, 7), 0.1)  # a mean of such numbers need not be one of them
    assert group_advantages(rewards).abs().max() == 0.0


def test_token_logprobs_are_those_of_the_chosen_tokens():
    logits = torch.log(torch.tensor([[[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]]))
    assert token_logprobs(logits, torch.tensor([[2, 0]])).exp().tolist() == [pytest.approx([0.5, 0.6])]


def test_the_loss_by_hand():
    """Two answers: one better with a ratio above the clip, one worse below it, and one token padded."""
    old = torch.log(torch.tensor([[0.5, 0.4], [0.5, 0.5]]))
    new = torch.log(torch.tensor([[0.75, 0.4], [0.3, 0.9]])).requires_grad_()
    reference = torch.log(torch.tensor([[0.5, 0.4], [0.6, 0.1]]))
    advantages = torch.tensor([1.0, -2.0])
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    objective = Objective(0.2, 0.2, kl=0.1, mean_over="answer")
    weights = objective.weights(mask, answers=2, tokens=3)
    loss = objective.loss(new, old, reference, advantages, weights)
    # ratios 1.5 (clipped to 1.2), 1.0, 0.6 (clipped to 0.8, which is worse for a bad answer)
    kl = [0.5 / 0.75 - math.log(0.5 / 0.75) - 1, 0.0, 2.0 - math.log(2.0) - 1]
    first = ((-1.2 + 0.1 * kl[0]) + (-1.0 + 0.1 * kl[1])) / 2
    second = -(-2.0 * 0.8) + 0.1 * kl[2]
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)
    loss.backward()
    # a clipped token moves by its KL alone: d(kl)/d(new) = 1 - exp(reference - new)
    expected = [
        [0.1 * (1 - 0.5 / 0.75) / 4, (-1.0 + 0.0) / 4],
        [0.1 * (1 - 2.0) / 2, 0.0],
    ]
    assert torch.allclose(new.grad, torch.tensor(expected), atol=1e-6)


def test_means_over_answers_and_over_tokens_differ_as_they_should():
    mask = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    per_answer = Objective(mean_over="answer").weights(mask, 2, 5)
    assert per_answer.sum(dim=1).tolist() == [0.5, 0.5]
    per_token = Objective(mean_over="token").weights(mask, 2, 5)
    assert per_token.sum(dim=1).tolist() == pytest.approx([0.8, 0.2])


def test_an_asymmetric_clip_is_wider_above():
    old, advantages = torch.zeros(1, 1), torch.tensor([1.0])
    new = torch.tensor([[math.log(1.25)]], requires_grad=True)
    weights = torch.ones(1, 1)
    Objective(0.2, 0.28).loss(new, old, None, advantages, weights).backward()
    assert new.grad.item() == pytest.approx(-1.25)
    new.grad = None
    Objective(0.2, 0.2).loss(new, old, None, advantages, weights).backward()
    assert new.grad.item() == 0.0


@given(st.floats(-5, 0), st.floats(-5, 0))
def test_the_kl_estimate_is_never_negative_and_zero_only_for_equals(policy, reference):
    value = kl_to_reference(
        torch.tensor(policy, dtype=torch.float64), torch.tensor(reference, dtype=torch.float64)
    )
    assert value >= 0
    assert (value == 0) == (policy == reference) or abs(policy - reference) < 1e-7


def test_the_kl_estimate_is_unbiased():
    """Averaged over the policy's own tokens it is the divergence itself."""
    policy = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    reference = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    expected = (policy * (policy / reference).log()).sum()
    assert (policy * kl_to_reference(policy.log(), reference.log())).sum() == pytest.approx(expected.item())


@pytest.mark.parametrize("mean_over", ["answer", "token"])
def test_the_gradient_of_a_model_equals_finite_differences(mean_over):
    """From logits through ratios, clip and KL, in float64, away from the clip's kinks."""
    torch.manual_seed(3)
    tokens = torch.randint(0, 7, (3, 4))
    mask = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.float64)
    advantages = torch.tensor([1.2, -0.7, 0.4], dtype=torch.float64)
    reference, sampled = (
        torch.log_softmax(torch.randn(3, 4, 7, dtype=torch.float64), -1).gather(-1, tokens[..., None])[..., 0]
        for _ in range(2)
    )
    objective = Objective(0.2, 0.3, kl=0.05, mean_over=mean_over)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        policy = torch.log_softmax(logits, -1).gather(-1, tokens[..., None])[..., 0]
        weights = objective.weights(mask, 3, int(mask.sum()))
        return objective.loss(policy, sampled, reference, advantages, weights)

    logits = torch.randn(3, 4, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (logits,), eps=1e-6, atol=1e-7)


def test_a_first_step_is_plain_policy_gradient():
    """Where the policy is the one that sampled, nothing is clipped and the gradient is -A · ∇log p."""
    policy = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    objective = Objective()
    weights = objective.weights(torch.ones(1, 2), 1, 2)
    objective.loss(policy, policy.detach(), None, torch.tensor([1.5]), weights).backward()
    assert policy.grad.tolist() == [[-0.75, -0.75]]
