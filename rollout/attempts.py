"""Tasks that fail every time: tried again a few times, then given up, so that one of them cannot hold a run."""

from __future__ import annotations

from collections import Counter

from rollout.types import Failure, Group, GroupRequest, Trajectory

_TASKS_FAULT = ("task", "environment")  # boundaries at which the task may be to blame


class Attempts:
    """How often the groups of one batch were tried.

    Args:
        limit: attempts per group.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._broken: Counter[int] = Counter()  # runners that died or fell silent while they had the group
        self._failed: Counter[int] = Counter()  # times that it came back failed as a whole

    def runner_lost(self, request: GroupRequest) -> bool:
        """Note that the group's runner was lost; returns whether to try again."""
        self._broken[request.group_id] += 1
        return self._broken[request.group_id] < self._limit

    def is_suspect(self, request: GroupRequest) -> bool:
        """Whether this is the last attempt after lost runners: it is played alone, so that no other is blamed."""
        return self._broken[request.group_id] >= max(1, self._limit - 1)

    def came_back(self, group: Group) -> bool:
        """Note a finished group; returns whether to try it again: it failed as a whole, and not for the engines."""
        if not failed_whole(group) or self._broken[group.group_id] >= self._limit:
            return False
        self._failed[group.group_id] += 1
        return self._failed[group.group_id] < self._limit

    def given_up(self, request: GroupRequest) -> Group:
        """The group as failed, for a request that broke its runner every time."""
        failure = Failure("task", f"the environment runner was lost {self._limit} times while it played this task")
        episodes = [
            Trajectory(request.task.task_id, index, turns=[], failure=failure) for index in range(request.group_size)
        ]
        return Group(request.group_id, request.task.task_id, episodes)


def failed_whole(group: Group) -> bool:
    """Whether every episode failed, each at a boundary where the task may be to blame."""
    failures = [trajectory.failure for trajectory in group.trajectories]
    return all(failure is not None and failure.boundary in _TASKS_FAULT for failure in failures)
