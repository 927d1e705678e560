"""Two groups with hand-computed figures."""

import json

import pytest

from cluster.metrics import finite, rollout_metrics, speed
from env.types import AnswerRecord, StepRecord
from learner.config import GRPOConfigSection
from rollout.staleness import bound
from rollout.types import Failure, Group, Trajectory, Turn


def turn(prompt: int, output: int, finish: str = "stop", version: int = 0) -> Turn:
    record = StepRecord("chunk", 0, "", None, [], "", "")
    return Turn([1] * prompt, [2] * output, [-0.5] * output, version, finish, record)


def episode(reward: float, turns: list[Turn], **metrics: float) -> Trajectory:
    answers = [AnswerRecord("q", "", ("g",), "a", {"em": reward, "f1": (1 + reward) / 2})]
    metrics = {name.replace("_", "/", 1): value for name, value in metrics.items()}
    return Trajectory("t", 0, turns, reward, answers, {"steps": len(turns), **metrics})


GROUPS = [
    Group(0, "t", [
        episode(1.0, [turn(10, 4), turn(20, 6, "length")], ops_create=3, ops_invalid=1, store_size=3),
        episode(0.0, [turn(10, 2, version=1)], ops_create=1, ops_read=1, store_size=1),
    ]),
    Group(1, "t", [
        episode(1.0, [turn(20, 8, version=1)], ops_answer=2),
        Trajectory("t", 1, [], failure=Failure("engine", "dead")),
    ]),
]  # fmt: skip


def test_an_iteration_by_hand() -> None:
    fresh, age = bound(GROUPS, version=1, max_staleness=1)
    row = rollout_metrics(fresh, GROUPS, age, GRPOConfigSection())
    assert row["reward/mean"] == pytest.approx(2 / 3)
    assert row["em"] == pytest.approx(2 / 3) and row["f1"] == pytest.approx(5 / 6)
    assert row["advantage/std"] == pytest.approx((0.5 / 3) ** 0.5)  # advantages 0.5, -0.5, 0
    assert (row["groups/total"], row["groups/zero_variance"], row["groups/dropped"]) == (2, 1, 0)
    assert row["episodes"] == 3
    assert row["operations/create"] == 4 / 4 and row["operations/read"] == 1 / 4  # over 4 steps
    assert row["invalid_rate"] == pytest.approx(1 / 8)
    assert row["store/size"] == pytest.approx(4 / 3)
    assert row["tokens/prompt_mean"] == 15 and row["tokens/output_per_turn"] == 5
    assert row["tokens/output_mean"] == pytest.approx(20 / 3)
    assert row["truncated_turns"] == 1 / 4
    assert row["staleness/max"] == 1
    assert (row["failures/engine"], row["failures/judge"]) == (1, 0)


def test_dropped_groups_count_for_the_curves_but_not_for_the_advantages() -> None:
    _, age = bound(GROUPS, version=1, max_staleness=1)
    row = rollout_metrics(GROUPS[:1], GROUPS, age, GRPOConfigSection())
    assert row["groups/dropped"] == 1 and row["reward/mean"] == pytest.approx(2 / 3)
    assert row["advantage/std"] == pytest.approx(0.5)


def test_nothing_finished_is_no_division_by_zero() -> None:
    _, age = bound([], version=0, max_staleness=0)
    row = rollout_metrics([], [], age, GRPOConfigSection())
    assert row["reward/mean"] == 0 and row["operations/create"] == 0


def test_speed_is_tokens_over_the_seconds_of_their_phase() -> None:
    row = {"time/learn": 2.0, "tokens/output_mean": 10.0, "episodes": 8.0, "tokens": 90.0}
    assert speed(row, sampling_seconds=4.0) == {
        "speed/output_tokens_per_s": 20.0, "speed/episodes_per_s": 2.0, "speed/train_tokens_per_s": 45.0,
    }  # fmt: skip


def test_rows_are_valid_json() -> None:
    row = finite({"step": 3.0, "a": 1.0, "b": float("nan"), "c": float("inf")})
    assert json.dumps(row) == '{"step": 3, "a": 1.0, "b": null, "c": null}'
