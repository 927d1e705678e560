"""When a group is tried again, and when it is given up."""

from env.types import Question, Task
from rollout.attempts import Attempts, failed_whole
from rollout.config import SamplingConfig
from rollout.types import Boundary, Failure, Group, GroupRequest, Trajectory

REQUEST = GroupRequest(7, Task("bad", ("text",), (Question("q", ("a",)),)), 2, SamplingConfig(), seed=1)


def group(*boundaries: Boundary | None) -> Group:
    failures = [None if boundary is None else Failure(boundary, "x") for boundary in boundaries]
    return Group(7, "bad", [Trajectory("bad", i, turns=[], failure=failure) for i, failure in enumerate(failures)])


def test_a_lost_runner_costs_an_attempt_and_the_last_one_is_played_alone() -> None:
    attempts = Attempts(limit=3)
    assert not attempts.is_suspect(REQUEST)
    assert attempts.runner_lost(REQUEST) and not attempts.is_suspect(REQUEST)
    assert attempts.runner_lost(REQUEST) and attempts.is_suspect(REQUEST)
    assert not attempts.runner_lost(REQUEST)
    given_up = attempts.given_up(REQUEST)
    assert [t.failure and t.failure.boundary for t in given_up.trajectories] == ["task", "task"]
    assert not attempts.came_back(given_up), "that is final"


def test_a_group_that_fails_whole_is_tried_again_unless_the_engines_failed() -> None:
    attempts = Attempts(limit=2)
    assert attempts.came_back(group("task", "environment"))
    assert not attempts.came_back(group("task", "task")), "it was the second time"
    assert not Attempts(limit=2).came_back(group("engine", "task"))
    assert not Attempts(limit=2).came_back(group("task", None)), "one episode is enough to go on with"


def test_failed_whole() -> None:
    assert failed_whole(group("task", "environment"))
    assert not failed_whole(group("task", "judge")) and not failed_whole(group(None, "task"))
