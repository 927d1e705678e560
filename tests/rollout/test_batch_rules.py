"""What of a batch is kept: staleness, dynamic sampling, too many failures."""

from __future__ import annotations

import pytest

from rollout.errors import RolloutError
from rollout.failures import FailureTally
from rollout.grouping import select
from rollout.staleness import bound, staleness
from rollout.types import Failure
from tests.rollout.policies import make_group


def test_staleness_is_that_of_the_oldest_turn() -> None:
    trajectory = make_group([1.0], versions=[4, 2, 3]).trajectories[0]
    assert staleness(trajectory, version=5) == 3
    trajectory.turns.clear()
    assert staleness(trajectory, version=5) == 0


def test_bound_drops_what_is_too_old_and_counts() -> None:
    fresh = make_group([1.0, 0.0], 0, versions=[5])
    one_behind = make_group([1.0], 1, versions=[4, 5])
    old = make_group([1.0, 0.0, 0.5], 2, versions=[2])
    kept, count = bound([fresh, one_behind, old], version=5, max_staleness=1)
    assert [group.group_id for group in kept] == [0, 1]
    assert (count.accepted, count.dropped, count.largest) == (3, 3, 1)
    assert count.mean == pytest.approx(1 / 3)


def test_on_policy_keeps_current_trajectories_of_a_mixed_group() -> None:
    group = make_group([1.0, 0.0], versions=[5])
    group.trajectories[0] = make_group([1.0], versions=[4]).trajectories[0]
    kept, count = bound([group], version=5, max_staleness=0)
    assert [trajectory.index for trajectory in kept[0].trajectories] == [1]
    assert (count.accepted, count.dropped, count.mean) == (1, 1, 0.0)
    assert len(group.trajectories) == 2


def test_select_drops_groups_of_equal_rewards_only_on_request() -> None:
    groups = [make_group([1, 1, 1], 0), make_group([1, 0, 1], 1), make_group([0, 0], 2)]
    assert select(groups, drop_equal=False) == (groups, [])
    kept, dropped = select(groups, drop_equal=True)
    assert [group.group_id for group in kept] == [1]
    assert [group.group_id for group in dropped] == [0, 2]


def test_select_leaves_failed_trajectories_out_of_the_comparison() -> None:
    group = make_group([1, 1, 0])
    group.trajectories[2].failure = Failure("engine", "gone")
    assert select([group], drop_equal=True) == ([], [group])


def test_tally_allows_the_share_and_refuses_more() -> None:
    failed = make_group([0, 0])
    failed.trajectories[0].failure = Failure("engine", "EngineError: no engine")
    failed.trajectories[1].failure = Failure("judge", "JudgeError: silent")
    tally = FailureTally(episodes=8, max_share=0.5)
    tally.add(failed)
    tally.add(make_group([1, 1]))
    tally.add(failed)
    assert tally.counts == {"engine": 2, "judge": 2}
    with pytest.raises(
        RolloutError, match=r"6 of 8 episodes failed.*0\.5.*3 at the engine.*JudgeError: silent"
    ):
        tally.add(failed)
