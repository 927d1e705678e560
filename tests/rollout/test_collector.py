"""The collector over scripted runners: what is tried again, what is given up, and that nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import rollout.collector
from env.types import Question, Task
from rollout.collector import GroupCollector
from rollout.config import RolloutConfig, SamplingConfig
from rollout.host import HostStatus
from rollout.types import Failure, Group, GroupRequest, Trajectory

BREAKS, FAILS = 100, 200  # group ids: at once the end of the runner; failed whole


class ScriptedRunners:
    """What the collector uses of RLlib's group. A runner finishes one group a report; a dead one is back at once."""

    def __init__(self, count: int) -> None:
        self.count, self.deaths = count, 0
        self.pending: dict[int, list[GroupRequest]] = {i: [] for i in range(1, count + 1)}
        self.asked: set[int] = set()
        self.played: list[int] = []

    def healthy_env_runner_ids(self) -> list[int]:
        return list(self.pending)

    def num_remote_env_runners(self) -> int:
        return self.count

    num_healthy_remote_env_runners = num_remote_env_runners

    def num_in_flight_async_reqs(self, tag: str) -> int:
        return len(self.asked)

    def foreach_env_runner(self, *args: Any, **kwargs: Any) -> None:
        """A cancellation."""

    def foreach_env_runner_async(
        self, method: str, tag: str, kwargs: dict[str, Any], remote_worker_ids: Sequence[int]
    ) -> int:
        (runner,) = remote_worker_ids
        self.pending[runner] += kwargs["requests"]
        self.asked.add(runner)
        return 1

    def fetch_ready_async_reqs(self, tags: str, timeout_seconds: float) -> list[tuple[int, HostStatus]]:
        asked, self.asked = self.asked, set()
        return [(runner, self._report(runner)) for runner in asked]

    def _report(self, runner: int) -> HostStatus:
        if any(request.group_id >= BREAKS and request.group_id < FAILS for request in self.pending[runner]):
            self.deaths += 1
            self.pending[runner] = []
            return HostStatus(turns=0)  # what a restarted runner knows
        done = [self._play(self.pending[runner].pop(0))] if self.pending[runner] else []
        return HostStatus(done, {request.group_id for request in self.pending[runner]}, len(self.played))

    def _play(self, request: GroupRequest) -> Group:
        self.played.append(request.group_id)
        failure = Failure("environment", "bad text") if request.group_id >= FAILS else None
        task = request.task.task_id
        return Group(request.group_id, task, [Trajectory(task, i, turns=[], failure=failure) for i in range(2)])


def requests(*ids: int) -> list[GroupRequest]:
    task = {i: Task(f"task{i}", ("text",), (Question("q", ("a",)),)) for i in ids}
    return [GroupRequest(i, task[i], 2, SamplingConfig(), seed=0) for i in ids]


def collect(runners: ScriptedRunners, *ids: int, attempts: int = 3) -> dict[int, set[str]]:
    """The failures of every group that came back, which each does once."""
    config = RolloutConfig(episodes_per_runner=6, attempts=attempts, max_failed_share=1.0)
    groups = list(GroupCollector(runners, config, stall_timeout_s=30).run(requests(*ids)))  # type: ignore[arg-type]
    assert sorted(group.group_id for group in groups) == sorted(ids)
    return {g.group_id: {t.failure.message for t in g.trajectories if t.failure} for g in groups}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout.collector, "_WAIT_S", 0.0)


@pytest.mark.parametrize("runners", [1, 2, 3])
def test_a_task_that_breaks_its_runner_is_given_up_and_no_other_is_blamed(runners: int) -> None:
    scripted = ScriptedRunners(runners)
    failed = collect(scripted, *range(8), BREAKS)
    assert failed.pop(BREAKS) == {"the environment runner was lost 3 times while it played this task"}
    assert all(not messages for messages in failed.values())
    assert scripted.deaths == 3


def test_two_such_tasks_are_told_apart() -> None:
    failed = collect(ScriptedRunners(2), *range(6), BREAKS, BREAKS + 1)
    assert {group_id for group_id, messages in failed.items() if messages} == {BREAKS, BREAKS + 1}


def test_a_group_that_fails_whole_is_played_as_often_as_attempts_say() -> None:
    scripted = ScriptedRunners(2)
    failed = collect(scripted, 0, 1, FAILS, attempts=2)
    assert failed[FAILS] == {"bad text"} and scripted.played.count(FAILS) == 2
    assert scripted.played.count(0) == scripted.played.count(1) == 1
