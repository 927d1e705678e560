"""Runners that only answer the collector: as many as one likes, in one process, for what the collector itself costs.

A group comes back after a delay, as a recorded one that is unpickled at that moment, as Ray does with a real report.
"""

from __future__ import annotations

import pickle
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rollout.host import HostStatus
from rollout.types import Group, GroupRequest


@dataclass
class _Runner:
    """Groups with the moment at which they are done, and how long the collector's present call waits."""

    due: dict[int, float] = field(default_factory=dict)
    answers_at: float | None = None
    turns: int = 0


class SimulatedRunners:
    """What `GroupCollector` uses of RLlib's EnvRunnerGroup.

    Args:
        count: of the runners.
        recorded: finished groups, which are given back again and again under the ids that are asked for.
        seconds: the shortest and the longest time that a group takes.
    """

    def __init__(self, count: int, recorded: Sequence[Group], seconds: tuple[float, float]) -> None:
        self._runners = {number: _Runner() for number in range(1, count + 1)}
        self._recorded = [pickle.dumps(group) for group in recorded]
        self._seconds, self._draw = seconds, random.Random(0)

    def num_remote_env_runners(self) -> int:
        """All."""
        return len(self._runners)

    num_healthy_remote_env_runners = num_remote_env_runners

    def healthy_env_runner_ids(self) -> list[int]:
        """All."""
        return list(self._runners)

    def foreach_env_runner_async(
        self, method: str, *, tag: str, kwargs: dict[str, Any], remote_worker_ids: list[int]
    ) -> int:
        """`advance` on one runner; 0 when it still owes a report."""
        (runner,) = (self._runners[number] for number in remote_worker_ids)
        if runner.answers_at is not None:
            return 0
        requests: list[GroupRequest] = pickle.loads(pickle.dumps(kwargs["requests"]))
        now = time.monotonic()
        for request in requests:
            runner.due[request.group_id] = now + self._draw.uniform(*self._seconds)
        runner.answers_at = min([now + kwargs["wait_s"], *runner.due.values()])
        return 1

    def num_in_flight_async_reqs(self, tag: str) -> int:
        """Calls that are not answered yet."""
        return sum(runner.answers_at is not None for runner in self._runners.values())

    def fetch_ready_async_reqs(self, *, tags: str, timeout_seconds: float) -> list[tuple[int, HostStatus]]:
        """The reports that are ready; waits for the first one."""
        first = min(runner.answers_at for runner in self._runners.values() if runner.answers_at is not None)
        time.sleep(max(0.0, min(timeout_seconds, first - time.monotonic())))
        now = time.monotonic()
        ready = [
            (number, runner)
            for number, runner in self._runners.items()
            if runner.answers_at is not None and runner.answers_at <= now
        ]
        return [(number, self._report(runner, now)) for number, runner in ready]

    def _report(self, runner: _Runner, now: float) -> HostStatus:
        done = [group_id for group_id, due in runner.due.items() if due <= now]
        groups = []
        for group_id in done:
            del runner.due[group_id]
            group = pickle.loads(self._recorded[group_id % len(self._recorded)])
            groups.append(replace(group, group_id=group_id))
        runner.answers_at, runner.turns = None, runner.turns + 1
        return HostStatus(groups=groups, pending=set(runner.due), turns=runner.turns)

    def foreach_env_runner(self, method: str, **options: Any) -> list[Any]:
        """Only `cancel` is asked for."""
        return []
