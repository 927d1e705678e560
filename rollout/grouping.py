"""Dynamic sampling: groups that teach nothing can be dropped and replaced by others."""

from __future__ import annotations

from collections.abc import Sequence

from rollout.types import Group


def has_signal(group: Group) -> bool:
    """Whether the rewards of the group's finished trajectories differ: otherwise every advantage is 0."""
    rewards = {trajectory.reward for trajectory in group.trajectories if trajectory.failure is None}
    return len(rewards) > 1


def select(groups: Sequence[Group], drop_equal: bool) -> tuple[list[Group], list[Group]]:
    """Split ``groups`` into (kept, dropped), order preserved; without ``drop_equal`` everything is kept.

    A group with fewer than two finished trajectories has no signal either.
    """
    if not drop_equal:
        return list(groups), []
    kept = [group for group in groups if has_signal(group)]
    return kept, [group for group in groups if not has_signal(group)]
