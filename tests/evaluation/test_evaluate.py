"""Held-out evaluation: rows, intervals, operations, and what failures count as."""

from __future__ import annotations

import json

import pytest

from env.errors import UserError
from env.types import Question, Task
from evaluation.comparison import compare, verdict
from evaluation.evaluate import Evaluation, evaluate
from rollout.config import SamplingConfig
from rollout.types import Failure, Group, Trajectory

from .conftest import evaluation_of, make_episode


class Recorded:
    """Hands out prepared episodes in reverse order, as groups finish in any order."""

    def __init__(self, trajectories):
        self.trajectories, self.requests = trajectories, []

    def run(self, requests):
        self.requests = list(requests)
        for request in reversed(self.requests):
            yield Group(request.group_id, request.task.task_id, [self.trajectories[request.group_id]])


def tasks(n):
    return [
        Task(f"t{i}", ("text",), (Question("Where does Ada live?", ("Oslo",), f"{1 + i % 2}-hop"),))
        for i in range(n)
    ]


def run(trajectories, **options):
    collector = Recorded(trajectories)
    return evaluate(
        collector, tasks(len(trajectories)), SamplingConfig(temperature=0), 7, **options
    ), collector


def test_rows_are_in_task_order_with_scores():
    evaluation, collector = run(
        [make_episode("Oslo", "t0", 0), make_episode("in Oslo", "t1", 1), make_episode(None, "t2", 2)]
    )
    assert [(r["task_id"], r["answer"], r["em"], r["cover_em"]) for r in evaluation.rows] == [
        ("t0", "Oslo", 1.0, 1.0), ("t1", "in Oslo", 0.0, 1.0), ("t2", None, 0.0, 0.0)
    ]  # fmt: skip
    assert [(r.group_id, r.group_size, r.seed) for r in collector.requests] == [
        (0, 1, 7),
        (1, 1, 8),
        (2, 1, 9),
    ]
    assert evaluation.rows[1]["f1"] == pytest.approx(2 / 3)


def test_summary_and_kinds():
    evaluation, _ = run(
        [
            make_episode("Oslo", "t0", 0),
            make_episode("Rome", "t1", 1),
            make_episode("Oslo", "t2", 2),
            make_episode("Oslo", "t3", 3),
        ]
    )
    assert evaluation.summary["em"]["mean"] == 0.75
    assert evaluation.summary["em"]["low"] <= 0.75 <= evaluation.summary["em"]["high"]
    assert (evaluation.summary["tasks"], evaluation.summary["questions"], evaluation.summary["failures"]) == (
        4,
        4,
        {},
    )
    assert {kind: (s["questions"], s["em"]["mean"]) for kind, s in evaluation.kinds.items()} == {
        "1-hop": (2, 1.0),
        "2-hop": (2, 0.5),
    }
    assert evaluation.policy_version == 3


def test_operations_are_per_step_and_invalid_per_operation():
    evaluation, _ = run(
        [make_episode("Oslo", "t0"), make_episode("Oslo", "t1")]
    )  # 3 steps: create, read + invalid, answer
    assert evaluation.operations_per_step["create"] == pytest.approx(1 / 3)
    assert evaluation.operations_per_step["update"] == 0.0
    assert evaluation.invalid_rate == pytest.approx(1 / 4)


def test_a_failed_episode_counts_as_unanswered_and_is_reported():
    failed = Trajectory("t1", 0, [], failure=Failure("engine", "gone"))
    evaluation, _ = run([make_episode("Oslo", "t0"), failed])
    assert evaluation.summary["em"]["mean"] == 0.5
    assert evaluation.summary["failures"] == {"engine": 1}
    assert (evaluation.rows[1]["answer"], evaluation.rows[1]["gold"], evaluation.rows[1]["em"]) == (
        None,
        ["Oslo"],
        0.0,
    )
    assert evaluation.operations_per_step["create"] == pytest.approx(1 / 3)  # of the finished one


def test_json_round_trip():
    evaluation, _ = run([make_episode("Oslo", "t0"), make_episode("Rome", "t1")], step=40)
    text = json.dumps(evaluation.to_json(), allow_nan=False)
    assert Evaluation.from_json(json.loads(text)) == evaluation
    assert json.loads(text)["step"] == 40


def test_no_tasks_and_lost_tasks_are_refused():
    with pytest.raises(UserError, match="no held-out tasks"):
        evaluate(Recorded([]), [], SamplingConfig(), 0)
    lossy = Recorded([make_episode("Oslo")])
    lossy.run = lambda requests: iter(())
    with pytest.raises(RuntimeError, match="1 of 1 tasks"):
        evaluate(lossy, tasks(1), SamplingConfig(), 0)


def test_verdict_of_a_clear_rise():
    line = compare(evaluation_of(4, 40, 0), evaluation_of(28, 40, 9))[0]
    assert line.difference.mean == pytest.approx(0.6)
    assert verdict(line).startswith("Exact match rose by 60.0 points (95% interval +45")
    assert verdict(line).endswith("p < 0.001); the intervals before and after lie apart.")


def test_verdict_of_a_small_change_claims_nothing():
    sentence = verdict(compare(evaluation_of(10, 40, 0), evaluation_of(11, 40, 9))[0])
    assert sentence.startswith("No change that 40 questions could show: +2.5 points (95% interval")
    assert "p = 1.000" in sentence


def test_verdict_of_a_fall():
    assert "fell by 50.0 points" in verdict(compare(evaluation_of(30, 40, 0), evaluation_of(10, 40, 9))[0])


def test_verdict_without_after_before_or_pairs():
    before = evaluation_of(10, 40, 0)
    assert verdict(compare(before, None)[0]) == "The evaluation after training is not there yet."
    assert verdict(None).startswith("The starting policy was not evaluated")
    assert "measured on different questions" in verdict(compare(before, evaluation_of(20, 30, 9))[0])


def test_lines_by_kind_carry_their_own_questions():
    lines = compare(evaluation_of(10, 40, 0), evaluation_of(20, 40, 9))
    assert [(line.label, line.questions) for line in lines[3:]] == [("1-hop", 20), ("2-hop", 20)]
    assert lines[3].difference.mean == pytest.approx(0.25)
