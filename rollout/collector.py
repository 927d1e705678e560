"""GroupCollector: hands group requests to the runners and yields the groups as they finish.

requests --queue--> least loaded runner --advance--> its report: finished groups, running groups, turns
            ^                                            |
            +---- groups that no live runner has --------+----> yield
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ray.exceptions import RayError
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rollout.attempts import Attempts
from rollout.config import RolloutConfig
from rollout.errors import RolloutError
from rollout.failures import FailureTally
from rollout.host import HostStatus
from rollout.types import Group, GroupRequest

_TAG = "rollout"
_WAIT_S = 0.2  # how long a runner waits for a finished group before it reports
_PROBE_EVERY_S = 5.0
_ANSWER_TIMEOUT_S = 120.0  # a runner that owes a report for longer counts as lost


@dataclass
class _Runner:
    """What the collector knows of one runner."""

    groups: dict[int, GroupRequest] = field(default_factory=dict)  # given to it and not yet back
    asked_at: float | None = None  # when the report that it owes was asked for
    turns: int = 0
    alone: bool = False  # it plays a group with which another runner was lost, and nothing else

    @property
    def episodes(self) -> int:
        return sum(request.group_size for request in self.groups.values())


class GroupCollector:
    """Collects over RLlib's fault-tolerant EnvRunnerGroup of MemoryEnvRunners.

    What a runner had that died, restarted or went silent is run again elsewhere; the same request gives the
    same episodes from the same weights. A task that breaks its runner, or fails whole, every time is given up
    after ``attempts`` and comes back as failed.

    Args:
        runners: the group; RLlib marks dead runners and Ray restarts them.
        config: the rollout section.
        stall_timeout_s: without any turn or group for this long the collector gives up. Default: what an
            engine may take to answer and to come back, and a minute.
    """

    def __init__(
        self, runners: EnvRunnerGroup, config: RolloutConfig, stall_timeout_s: float | None = None
    ) -> None:
        self._group, self._config = runners, config
        engine = config.engine
        self._stall_timeout_s = stall_timeout_s or engine.request_timeout_s + engine.recovery_timeout_s + 60.0
        self._probed_at = float("-inf")

    def run(self, requests: Sequence[GroupRequest]) -> Iterator[Group]:
        """Run ``requests`` and yield each group once, as they finish; closing the iterator cancels the rest.

        Raises RolloutError when more than ``max_failed_share`` of the episodes fail (naming the boundary), or
        when nothing moves for ``stall_timeout_s``.
        """
        queue, by_id = deque(requests), {request.group_id: request for request in requests}
        if len(by_id) != len(requests):
            raise ValueError("group_id must be unique within one call of run")
        waiting = set(by_id)
        runners: dict[int, _Runner] = {}
        attempts = Attempts(self._config.attempts)
        tally = FailureTally(sum(request.group_size for request in requests), self._config.max_failed_share)
        moved_at = time.monotonic()
        try:
            while waiting:
                self._probe()
                finished = [attempts.given_up(request) for request in self._reclaim(runners, queue, attempts)]
                self._hand_out(runners, queue, attempts)
                for runner_id, status in self._reports():
                    runner = runners.setdefault(runner_id, _Runner())
                    if status.groups or status.turns != runner.turns:
                        moved_at = time.monotonic()
                    groups, hopeless = _absorb(runner, status, queue, attempts)
                    finished += [*groups, *map(attempts.given_up, hopeless)]
                for group in finished:
                    if group.group_id not in waiting:
                        continue
                    if attempts.came_back(group):
                        queue.append(by_id[group.group_id])
                        continue
                    waiting.remove(group.group_id)
                    tally.add(group)
                    yield group
                self._check_moving(moved_at, len(waiting), len(requests))
        finally:
            if waiting:
                self._cancel()

    def _probe(self) -> None:
        """Now and then, ask dead runners whether they are back."""
        if time.monotonic() - self._probed_at > _PROBE_EVERY_S:
            self._probed_at = time.monotonic()
            if self._group.num_healthy_remote_env_runners() < self._group.num_remote_env_runners():
                self._group.probe_unhealthy_env_runners(timeout_seconds=1.0)

    def _reclaim(
        self, runners: dict[int, _Runner], queue: deque[GroupRequest], attempts: Attempts
    ) -> list[GroupRequest]:
        """Put back into the queue what dead or silent runners have; returns what has been tried too often."""
        healthy = set(self._group.healthy_env_runner_ids())
        now = time.monotonic()
        hopeless: list[GroupRequest] = []
        for runner_id, runner in runners.items():
            dead = runner_id not in healthy
            silent = runner.asked_at is not None and now - runner.asked_at > _ANSWER_TIMEOUT_S
            if dead or silent:
                hopeless += _put_back(runner, list(runner.groups.values()), queue, attempts)
            if dead:
                runner.asked_at = None
        return hopeless

    def _hand_out(self, runners: dict[int, _Runner], queue: deque[GroupRequest], attempts: Attempts) -> None:
        """Give queued groups to the least loaded runners that owe no report, and ask those for one."""
        idle = {}
        for runner_id in self._group.healthy_env_runner_ids():
            runner = runners.setdefault(runner_id, _Runner())
            runner.alone = runner.alone and bool(runner.groups)
            if runner.asked_at is None:
                idle[runner_id] = runner
        shares = _suspects_first(idle, queue, attempts)
        waiting = [request for request in queue if attempts.is_suspect(request)]
        free = {i: runner.episodes for i, runner in idle.items() if not runner.alone}
        plain = deque(request for request in queue if request not in waiting)
        shares |= share_out(plain, free, self._config.episodes_per_runner)
        queue.clear()
        queue.extend([*waiting, *plain])
        for runner_id, runner in idle.items():
            self._ask(runner_id, runner, shares.get(runner_id, []), queue)

    def _ask(
        self, runner_id: int, runner: _Runner, share: list[GroupRequest], queue: deque[GroupRequest]
    ) -> None:
        if not share and not runner.groups:
            return
        made = self._group.foreach_env_runner_async(
            "advance", tag=_TAG, kwargs={"requests": share, "wait_s": _WAIT_S}, remote_worker_ids=[runner_id]
        )
        if made:
            runner.asked_at = time.monotonic()
            runner.groups |= {request.group_id: request for request in share}
        else:  # it still owes a report that an earlier run asked for
            queue.extendleft(share)

    def _reports(self) -> list[tuple[int, HostStatus]]:
        if self._group.num_in_flight_async_reqs(_TAG) == 0:  # no live runner: the call below would not wait
            time.sleep(_WAIT_S)
        try:
            return self._group.fetch_ready_async_reqs(tags=_TAG, timeout_seconds=_WAIT_S)
        except RayError as error:  # only when the runners' fault tolerance is switched off
            raise RolloutError(f"an environment runner died: {str(error).splitlines()[0]}") from error

    def _check_moving(self, moved_at: float, waiting: int, total: int) -> None:
        if time.monotonic() - moved_at > self._stall_timeout_s:
            alive, runners = len(self._group.healthy_env_runner_ids()), self._group.num_remote_env_runners()
            raise RolloutError(
                f"no turn and no group for {self._stall_timeout_s:g} s: {total - waiting} of {total} groups "
                f"are done, {alive} of {runners} environment runners are alive"
            )

    def _cancel(self) -> None:
        self._group.foreach_env_runner("cancel", local_env_runner=False, timeout_seconds=10.0)


def share_out(
    queue: deque[GroupRequest], loads: dict[int, int], capacity: int
) -> dict[int, list[GroupRequest]]:
    """Take groups from ``queue`` and give each to the runner with the fewest episodes.

    Only runners with fewer than ``capacity`` episodes get more. Groups are not split, so one may end up above
    it; what finds no runner stays in the queue.
    """
    loads, shares = dict(loads), {runner_id: [] for runner_id in loads}  # type: ignore[var-annotated]
    while queue and loads:
        runner_id = min(loads, key=lambda candidate: loads[candidate])
        if loads[runner_id] >= capacity:
            break
        request = queue.popleft()
        shares[runner_id].append(request)
        loads[runner_id] += request.group_size
    return shares


def _suspects_first(
    idle: dict[int, _Runner], queue: deque[GroupRequest], attempts: Attempts
) -> dict[int, list[GroupRequest]]:
    """Give groups with which a runner was lost to empty runners, one each, before anything else is given out.

    Those that find none stay in the queue.
    """
    suspects = [request for request in queue if attempts.is_suspect(request)]
    empty = [runner_id for runner_id, runner in idle.items() if not runner.groups]
    shares = {runner_id: [request] for runner_id, request in zip(empty, suspects, strict=False)}
    for runner_id, (request,) in shares.items():
        idle[runner_id].alone = True
        queue.remove(request)
    return shares


def _put_back(
    runner: _Runner, lost: list[GroupRequest], queue: deque[GroupRequest], attempts: Attempts
) -> list[GroupRequest]:
    """Take groups from a runner that lost them, into the queue; returns those that were tried too often."""
    for request in lost:
        runner.groups.pop(request.group_id, None)
    again = {request.group_id for request in lost if attempts.runner_lost(request)}
    queue.extendleft(request for request in lost if request.group_id in again)
    return [request for request in lost if request.group_id not in again]


def _absorb(
    runner: _Runner, status: HostStatus, queue: deque[GroupRequest], attempts: Attempts
) -> tuple[list[Group], list[GroupRequest]]:
    """Take over a report: its groups, and what was tried too often.

    What the runner should have but knows nothing of, because it was restarted, goes back into the queue.
    """
    asked, runner.asked_at, runner.turns = runner.asked_at, None, status.turns
    for group in status.groups:
        runner.groups.pop(group.group_id, None)
    if asked is None:
        return status.groups, []
    lost = [request for group_id, request in runner.groups.items() if group_id not in status.pending]
    return status.groups, _put_back(runner, lost, queue, attempts)
