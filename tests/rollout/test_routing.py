"""Which engine and which runner gets what."""

from __future__ import annotations

from collections import deque

import pytest

from rollout.attempts import Attempts
from rollout.collector import _absorb, _Runner, share_out
from rollout.host import HostStatus
from rollout.routing import route
from tests.rollout.policies import make_group, make_request


@pytest.mark.parametrize(
    ("loads", "affinity", "avoid", "expected"),
    [
        ([0, 0, 0], 4, (), 1),  # home: 4 % 3
        ([0, 4, 0], 4, (), 1),  # as loaded as the prefix cache is worth
        ([2, 7, 1], 4, (), 2),  # home is 6 above the least loaded
        ([2, 0, 1], 4, (1,), 2),
        ([0, 0, 0], 4, (0, 1, 2), None),
        ([9], 3, (), 0),
    ],
)
def test_route(loads: list[int], affinity: int, avoid: tuple[int, ...], expected: int | None) -> None:
    assert route(loads, affinity, slack=4, avoid=avoid) == expected


def test_share_out_evens_episodes_and_respects_capacity() -> None:
    queue = deque(make_request(group_id, size=4) for group_id in range(6))
    shares = share_out(queue, {1: 8, 2: 0, 3: 0}, capacity=8)
    assert {runner: [r.group_id for r in share] for runner, share in shares.items()} == {
        1: [],
        2: [0, 2],
        3: [1, 3],
    }
    assert [request.group_id for request in queue] == [4, 5]


def test_share_out_gives_a_group_larger_than_the_capacity_to_an_empty_runner() -> None:
    queue = deque([make_request(0, size=16)])
    assert len(share_out(queue, {1: 0}, capacity=8)[1]) == 1
    assert not queue


def test_a_restarted_runner_loses_groups_and_they_are_queued_again() -> None:
    runner = _Runner({i: make_request(i) for i in range(3)}, asked_at=1.0)
    queue = deque([make_request(9)])
    status = HostStatus([make_group([1], 0)], pending={2}, turns=4)
    groups, hopeless = _absorb(runner, status, queue, Attempts(limit=3))
    assert not hopeless
    assert [group.group_id for group in groups] == [0]
    assert list(runner.groups) == [2]
    assert [request.group_id for request in queue] == [1, 9]
    assert (runner.asked_at, runner.turns) == (None, 4)
