"""The mathematics of GRPO: advantages within a group, clipped ratios, and a KL penalty.

Pure functions of tensors. An answer's tokens carry log-probabilities under the policy that is being
trained, under the policy that sampled them, and under the reference; a mask says which tokens count.
"""

from dataclasses import dataclass
from typing import Literal

import torch

EPSILON = 1e-6


def group_advantages(rewards: torch.Tensor, scale: bool = True) -> torch.Tensor:
    """How much better each answer did than its group (problems × answers).

    A group whose answers all earned the same teaches nothing: its advantages are exactly 0.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    same = rewards.amax(dim=1, keepdim=True) == rewards.amin(dim=1, keepdim=True)
    centred = centred.masked_fill(same, 0.0)
    if not scale or rewards.shape[1] < 2:
        return centred
    return centred / (rewards.std(dim=1, keepdim=True) + EPSILON)


def kl_to_reference(policy: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The unbiased, never negative estimate of KL(policy ‖ reference) from each sampled token."""
    difference = reference - policy
    return difference.exp() - difference - 1.0


@dataclass(frozen=True)
class Objective:
    """What GRPO minimises, and what its loss is a mean over."""

    clip_low: float = 0.2
    clip_high: float = 0.2
    kl: float = 0.0
    mean_over: Literal["answer", "token"] = "answer"

    def weights(self, mask: torch.Tensor, answers: int, tokens: int) -> torch.Tensor:
        """Each token's weight in the loss of a step with so many answers and tokens in all."""
        if self.mean_over == "token":
            return mask / max(tokens, 1)
        return mask / mask.sum(dim=1, keepdim=True).clamp(min=1) / max(answers, 1)

    def loss(
        self,
        policy: torch.Tensor,
        sampled: torch.Tensor,
        reference: torch.Tensor | None,
        advantages: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        """The part of the step's loss that these answers make (answers × tokens; advantages per answer)."""
        ratio = (policy - sampled).exp()
        gain = advantages.unsqueeze(1)
        clipped = ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high)
        each = -torch.minimum(ratio * gain, clipped * gain)
        if reference is not None and self.kl:
            each = each + self.kl * kl_to_reference(policy, reference)
        return (each * weights).sum()
