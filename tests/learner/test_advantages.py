"""Advantages and loss weights against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from env.types import StepRecord
from learner.advantages import advantages, imitation_weights, policy_weights, sequences_from_groups
from learner.config import GRPOConfigSection
from learner.types import TrainSequence
from rollout.types import Failure, Group, Trajectory, Turn


def turn(outputs: int) -> Turn:
    record = StepRecord("chunk", 0, "", None, [], "", "")
    return Turn([5, 6], list(range(outputs)), [-1.0] * outputs, 0, "stop", record)


def sequence(outputs: int, trajectory: int, weight: float = 1.0) -> TrainSequence:
    return TrainSequence([1], [2] * outputs, [weight] * outputs, [], trajectory)


def test_mean_takes_the_group_mean_off() -> None:
    assert advantages([1.0, 0.0, 0.0, 1.0, 1.0]) == pytest.approx([0.4, -0.6, -0.6, 0.4, 0.4])


def test_mean_std_divides_by_the_population_deviation() -> None:
    # mean 0.25, variance (3 * 0.0625 + 0.5625) / 4 = 0.1875, deviation 0.4330127
    found = advantages([1.0, 0.0, 0.0, 0.0], "mean_std")
    assert found == pytest.approx([1.7320468, -0.5773489, -0.5773489, -0.5773489])


def test_equal_rewards_have_no_advantage_in_either_mode() -> None:
    assert advantages([0.7, 0.7, 0.7]) == pytest.approx([0, 0, 0], abs=1e-12)
    assert advantages([0.7, 0.7, 0.7], "mean_std") == pytest.approx([0, 0, 0], abs=1e-6)


def test_every_output_token_of_a_trajectory_gets_its_advantage() -> None:
    good = Trajectory("a", 0, [turn(3), turn(1)], reward=1.0)
    bad = Trajectory("a", 1, [turn(2)], reward=0.0)
    found = sequences_from_groups([Group(0, "a", [good, bad])], GRPOConfigSection())
    assert [(s.advantages, s.trajectory) for s in found] == [([0.5] * 3, 0), ([0.5], 0), ([-0.5] * 2, 1)]
    assert found[0].prompt_ids == [5, 6] and found[0].logprobs == [-1.0] * 3


def test_failed_trajectories_count_neither_in_the_mean_nor_in_the_batch() -> None:
    failed = Trajectory("a", 0, [turn(3)], reward=0.0, failure=Failure("judge", "timed out"))
    trajectories = [failed, Trajectory("a", 1, [turn(1)], reward=1.0), Trajectory("a", 2, [turn(1)], reward=0.5)]
    found = sequences_from_groups([Group(0, "a", trajectories), Group(1, "b", [failed])], GRPOConfigSection())
    assert [(s.advantages, s.trajectory) for s in found] == [([0.25], 0), ([-0.25], 1)]


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("token-mean", [1 / 6, 1 / 6, 1 / 6]),
        ("sequence-mean", [1 / (2 * 4), 1 / (2 * 4), 1 / (2 * 2)]),
        ("dr-grpo", [1 / (2 * 50), 1 / (2 * 50), 1 / (2 * 50)]),
    ],
)
def test_token_weights_of_two_trajectories_of_four_and_two_tokens(aggregation: str, expected: list[float]) -> None:
    batch = [sequence(3, 0), sequence(1, 0), sequence(2, 1)]
    config = GRPOConfigSection(aggregation=aggregation, constant_tokens=50)
    weights = policy_weights(batch, config)
    assert [len(w) for w in weights] == [3, 1, 2]
    for found, value in zip(weights, expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-6)


def test_imitation_weights_are_shares_of_all_loss_weights() -> None:
    weights = imitation_weights([sequence(2, 0, 1.0), sequence(1, 1, 2.0)])
    np.testing.assert_allclose(np.concatenate(weights), [0.25, 0.25, 0.5])
    with pytest.raises(ValueError, match="sum to 0"):
        imitation_weights([sequence(2, 0, 0.0)])
