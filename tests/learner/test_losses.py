"""Token losses against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from learner.config import GRPOConfigSection
from learner.losses import PolicyTerms, clipped_surrogate, imitation_loss, importance_weights, k3, policy_loss
from learner.metrics import batch_metrics, mean_metrics

NAN = float("nan")


def logs(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).log()


def terms(new: torch.Tensor, old: torch.Tensor, advantages: list[float], **changes: torch.Tensor) -> PolicyTerms:
    count = len(new)
    settled = {
        "entropy": torch.zeros(count),
        "weights": torch.full((count,), 1 / count),
        "engine_logprobs": torch.full((count,), NAN),
    }
    return PolicyTerms(logprobs=new, old_logprobs=old, advantages=torch.tensor(advantages), **(settled | changes))


def test_k3_is_zero_for_equal_and_right_for_a_ratio_of_two() -> None:
    found = k3(logs(0.5, 0.25, 0.5), logs(0.5, 0.5, 0.25))
    # r = q/p = 1, 2, 1/2: r - 1 - ln r
    assert found.tolist() == pytest.approx([0.0, 1 - math.log(2), -0.5 + math.log(2)], abs=1e-6)


def test_clip_is_pessimistic_on_both_sides() -> None:
    ratio = torch.tensor([0.5, 0.5, 1.0, 1.5, 1.5])
    advantages = torch.tensor([1.0, -1.0, 2.0, 1.0, -1.0])
    # below the band only a negative advantage is held at 0.8; above it only a positive one at 1.28
    expected = [-0.5, 0.8, -2.0, -1.28, 1.5]
    assert clipped_surrogate(ratio, advantages, 0.2, 0.28).tolist() == pytest.approx(expected)


def test_importance_weights_are_truncated_and_one_where_unknown() -> None:
    old, engine = logs(0.5, 0.5, 0.5), torch.tensor([math.log(0.4), math.log(0.1), NAN])
    assert importance_weights(old, engine, 2.0).tolist() == pytest.approx([1.25, 2.0, 1.0])
    assert importance_weights(old, engine, None).tolist() == [1.0, 1.0, 1.0]


def test_on_policy_gradient_is_minus_weight_times_advantage() -> None:
    new = logs(0.5, 0.2).requires_grad_()
    loss, _ = policy_loss(terms(new, new.detach(), [0.5, -2.0]), GRPOConfigSection())
    loss.backward()
    assert loss.item() == pytest.approx((-0.5 + 2.0) / 2)
    assert new.grad.tolist() == pytest.approx([-0.25, 1.0])


def test_clipped_tokens_have_no_gradient_and_are_counted() -> None:
    old = logs(0.5, 0.5, 0.5, 0.5)
    new = (old + torch.tensor([0.5, 1.5, 0.5, 1.5]).log()).requires_grad_()
    loss, sums = policy_loss(terms(new, old, [-1.0, 1.0, 1.0, -1.0]), GRPOConfigSection())
    loss.backward()
    assert new.grad.tolist() == pytest.approx([0.0, 0.0, -0.125, 0.375])
    assert (sums["clip/low"].item(), sums["clip/high"].item()) == (1, 1)


def test_truncated_importance_sampling_scales_the_gradient() -> None:
    new = logs(0.5, 0.5).requires_grad_()
    engine = logs(0.4, 0.1)
    loss, _ = policy_loss(terms(new, new.detach(), [1.0, 1.0], engine_logprobs=engine), GRPOConfigSection())
    loss.backward()
    assert new.grad.tolist() == pytest.approx([-1.25 / 2, -2.0 / 2])


def test_kl_and_entropy_enter_with_their_coefficients() -> None:
    new = logs(0.25).requires_grad_()
    entropy = torch.tensor([1.5], requires_grad=True)
    config = GRPOConfigSection(kl_coefficient=0.1, entropy_coefficient=0.01)
    given = terms(new, new.detach(), [0.0], entropy=entropy, reference_logprobs=logs(0.5))
    loss, sums = policy_loss(given, config)
    assert loss.item() == pytest.approx(0.1 * (1 - math.log(2)) - 0.015, abs=1e-6)
    loss.backward()
    assert new.grad.item() == pytest.approx(0.1 * (1 - 2))  # d k3 / d log p = 1 - r
    assert entropy.grad.item() == pytest.approx(-0.01)
    assert sums["kl"].item() == pytest.approx(1 - math.log(2), abs=1e-6)


def test_mismatch_is_measured_over_tokens_with_known_engine_logprobs() -> None:
    engine = torch.tensor([math.log(0.25), NAN, math.log(0.5)])
    _, sums = policy_loss(terms(logs(0.5, 0.5, 0.5), logs(0.5, 0.5, 0.5), [0.0] * 3, engine_logprobs=engine),
                          GRPOConfigSection())
    metrics = batch_metrics([{key: float(value) for key, value in sums.items()} | OTHER])
    assert metrics["mismatch/mean_abs"] == pytest.approx(math.log(2) / 2)
    assert metrics["mismatch/kl"] == pytest.approx((1 - math.log(2)) / 2)


def test_zero_weight_tokens_leave_no_trace() -> None:
    weights = torch.tensor([1.0, 0.0])
    given = terms(logs(0.5, 0.1), logs(0.5, 0.9), [1.0, 5.0], weights=weights, entropy=torch.tensor([2.0, 9.0]))
    loss, sums = policy_loss(given, GRPOConfigSection())
    assert loss.item() == -1.0
    assert (sums["tokens"].item(), sums["entropy"].item(), sums["clip/low"].item()) == (1, 2.0, 0)


def test_imitation_loss_is_the_weighted_negative_log_likelihood() -> None:
    loss, sums = imitation_loss(logs(0.5, 0.25), torch.tensor([1.0, 3.0]), torch.tensor([0.75, 0.25]))
    assert loss.item() == pytest.approx(0.75 * math.log(2) + 0.25 * math.log(4))
    assert (sums["tokens"].item(), sums["entropy"].item()) == (2, 4.0)


OTHER = {"grad_norm": 0.5, "lr": 1e-3, "skipped": 0.0, "memory_mb": 100.0}


def test_metrics_add_up_over_ranks_and_updates() -> None:
    ranks = [
        {"tokens": 3.0, "loss": 0.25, "entropy": 6.0, "clip/low": 1.0, "mismatch/tokens": 0.0} | OTHER,
        {"tokens": 1.0, "loss": 0.5, "entropy": 2.0, "clip/low": 1.0, "mismatch/tokens": 0.0} | OTHER,
    ]
    one = batch_metrics(ranks)
    assert one == {"tokens": 4.0, "loss": 0.75, "entropy": 2.0, "clip/low": 0.5, "grad_norm": 0.5, "lr": 1e-3,
                   "updates/skipped": 0.0, "memory/learner_mb": 200.0}
    both = mean_metrics([one, one | {"loss": 0.25, "updates/skipped": 1.0}])
    assert (both["tokens"], both["loss"], both["updates/skipped"]) == (8.0, 0.5, 1.0)
