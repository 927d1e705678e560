"""Many episodes at once: no lockstep, a bound on concurrency, nothing lost and nothing shared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rollout.host import EpisodeHost
from rollout.types import Group
from tests.rollout.policies import CountingEnv, DigitTokenizer, RandomPolicy, make_request


@contextmanager
def hosting(policy: RandomPolicy, concurrency: int = 64) -> Iterator[EpisodeHost]:
    host = EpisodeHost(lambda request: CountingEnv(), policy, DigitTokenizer(), concurrency)
    try:
        yield host
    finally:
        host.close()


def collect_all(host: EpisodeHost, count: int, timeout_s: float = 20.0) -> list[Group]:
    groups: list[Group] = []
    deadline = time.monotonic() + timeout_s
    while len(groups) < count and time.monotonic() < deadline:
        groups += host.collect(wait_s=0.1).groups
    return groups


def test_groups_come_back_whole_and_once() -> None:
    with hosting(RandomPolicy()) as host:
        host.submit([make_request(group_id, size=4) for group_id in range(20)])
        groups = collect_all(host, 20)
        assert sorted(group.group_id for group in groups) == list(range(20))
        for group in groups:
            assert [trajectory.index for trajectory in group.trajectories] == [0, 1, 2, 3]
            assert all(t.task_id == f"t{group.group_id}" and t.failure is None for t in group.trajectories)
        status = host.collect()
        assert (status.groups, status.pending, status.turns) == ([], set(), 20 * 4 * 3)


def test_a_quick_group_does_not_wait_for_a_slow_one() -> None:
    gate = asyncio.Event()

    class Gated(RandomPolicy):
        async def generate(self, prompt_ids, sampling, affinity, seed=None):  # type: ignore[no-untyped-def]
            if affinity == 0:
                await gate.wait()
            return await super().generate(prompt_ids, sampling, affinity, seed)

    with hosting(Gated()) as host:
        host.submit([make_request(0), make_request(1, units=9)])
        assert [group.group_id for group in collect_all(host, 1)] == [1]
        assert host.collect().pending == {0}
        host._loop.call_soon_threadsafe(gate.set)
        assert [group.group_id for group in collect_all(host, 1)] == [0]


def test_concurrency_is_bounded_and_used() -> None:
    policy = RandomPolicy(delay_s=lambda affinity: 0.002)
    with hosting(policy, concurrency=5) as host:
        host.submit([make_request(group_id, size=4) for group_id in range(6)])
        assert len(collect_all(host, 6)) == 6
    assert policy.most_running == 5


def test_the_same_requests_give_the_same_episodes_whatever_the_timing() -> None:
    def run(policy: RandomPolicy, concurrency: int) -> dict[int, list[list[list[int]]]]:
        with hosting(policy, concurrency) as host:
            host.submit([make_request(group_id) for group_id in range(4)])
            groups = collect_all(host, 4)
            return {
                group.group_id: [[turn.output_ids for turn in t.turns] for t in group.trajectories]
                for group in groups
            }

    quick = run(RandomPolicy(), 64)
    assert quick == run(RandomPolicy(delay_s=lambda affinity: 0.003 * (3 - affinity)), 3)


def test_submitting_a_running_group_again_runs_it_once() -> None:
    with hosting(RandomPolicy(delay_s=lambda affinity: 0.01)) as host:
        host.submit([make_request(3)])
        host.submit([make_request(3)])
        assert len(collect_all(host, 1)) == 1
        assert host.collect(wait_s=0.1).groups == []
        assert host.turns == 2 * 3


def test_cancel_forgets_what_runs_and_the_host_goes_on() -> None:
    with hosting(RandomPolicy(delay_s=lambda affinity: 30.0 if affinity == 0 else 0.0)) as host:
        host.submit([make_request(0)])
        assert host.collect().pending == {0}
        host.cancel()
        assert host.collect().pending == set()
        host.submit([make_request(1)])
        assert [group.group_id for group in collect_all(host, 1)] == [1]
