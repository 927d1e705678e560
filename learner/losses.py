"""Token losses. All of them return ``sum(weight * token loss)`` with weights that are normalised over the whole batch.

Every tensor is float32 [N], one value per output token of a micro-batch. Metrics are sums, which the caller adds up
over micro-batches and ranks and divides by ``tokens``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from learner.config import GRPOConfigSection

Sums = dict[str, Tensor]


@dataclass
class PolicyTerms:
    """What the policy loss needs of one micro-batch. ``logprobs`` and ``entropy`` carry gradients."""

    logprobs: Tensor
    entropy: Tensor
    weights: Tensor
    advantages: Tensor
    old_logprobs: Tensor  # of the policy before the update, without gradient
    engine_logprobs: Tensor  # of the engine that sampled; NaN where not known
    reference_logprobs: Tensor | None = None


def k3(logprobs: Tensor, other: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(p || q) from tokens sampled from p: r - 1 - log r with r = q/p; never negative.

    Args: ``logprobs`` of the tokens under p, ``other`` under q. http://joschu.net/blog/kl-approx.html
    """
    log_ratio = other - logprobs
    return log_ratio.exp() - 1 - log_ratio


def clipped_surrogate(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """PPO's pessimistic objective as a loss, with separate bounds (clip-higher of DAPO)."""
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def importance_weights(old_logprobs: Tensor, engine_logprobs: Tensor, cap: float | None) -> Tensor:
    """Truncated importance sampling between the learner and the engine that sampled: min(p_learner / p_engine, cap).

    1 where the engine's log-probability is not known, and everywhere when ``cap`` is None.
    https://fengyao.notion.site/off-policy-rl
    """
    if cap is None:
        return torch.ones_like(old_logprobs)
    return (old_logprobs - engine_logprobs).nan_to_num(0.0).exp().clamp(max=cap)


def policy_loss(terms: PolicyTerms, config: GRPOConfigSection) -> tuple[Tensor, Sums]:
    """GRPO: clipped surrogate, corrected for the engine's numerics, plus KL and minus entropy where configured."""
    ratio = (terms.logprobs - terms.old_logprobs).exp()
    correction = importance_weights(terms.old_logprobs, terms.engine_logprobs, config.importance_cap)
    loss = correction * clipped_surrogate(ratio, terms.advantages, config.clip_low, config.clip_high)
    real = terms.weights != 0
    sums = _common_sums(terms, real) | _clip_sums(ratio.detach(), terms.advantages, config, real)
    if terms.reference_logprobs is not None:
        kl = k3(terms.logprobs, terms.reference_logprobs)
        loss = loss + config.kl_coefficient * kl
        sums["kl"] = kl.detach()[real].sum()
    if config.entropy_coefficient:
        loss = loss - config.entropy_coefficient * terms.entropy
    total = (terms.weights * loss).sum()
    sums["loss"] = total.detach()
    return total, sums


def imitation_loss(logprobs: Tensor, entropy: Tensor, weights: Tensor) -> tuple[Tensor, Sums]:
    """SFT: negative log-likelihood of the output tokens."""
    total = -(weights * logprobs).sum()
    real = weights != 0
    return total, {"loss": total.detach(), "tokens": real.sum(), "entropy": entropy.detach()[real].sum()}


def _common_sums(terms: PolicyTerms, real: Tensor) -> Sums:
    known = real & ~terms.engine_logprobs.isnan()
    ours, engine = terms.old_logprobs[known], terms.engine_logprobs[known]
    return {
        "tokens": real.sum(),
        "entropy": terms.entropy.detach()[real].sum(),
        "mismatch/tokens": known.sum(),
        "mismatch/mean_abs": (ours - engine).abs().sum(),
        "mismatch/kl": k3(engine, ours).sum(),
    }


def _clip_sums(ratio: Tensor, advantages: Tensor, config: GRPOConfigSection, real: Tensor) -> Sums:
    """Tokens whose gradient the clip takes away: below the band with A < 0, above it with A > 0."""
    low = (ratio < 1 - config.clip_low) & (advantages < 0) & real
    high = (ratio > 1 + config.clip_high) & (advantages > 0) & real
    return {"clip/low": low.sum(), "clip/high": high.sum()}
