"""How old the policy is that sampled what is about to be learned, and the bound on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rollout.types import Group, Trajectory


@dataclass
class StalenessCount:
    """Counters of one batch; versions are whole weight updates."""

    accepted: int = 0  # trajectories
    dropped: int = 0
    total: int = 0  # sum of the staleness of the accepted ones
    largest: int = 0

    @property
    def mean(self) -> float:
        """Mean staleness of the accepted trajectories; 0 when there are none."""
        return self.total / self.accepted if self.accepted else 0.0


def staleness(trajectory: Trajectory, version: int) -> int:
    """Weight versions between the oldest turn of ``trajectory`` and ``version``; 0 without turns."""
    return max((version - turn.policy_version for turn in trajectory.turns), default=0)


def bound(groups: Sequence[Group], version: int, max_staleness: int) -> tuple[list[Group], StalenessCount]:
    """Drop the trajectories that are more than ``max_staleness`` versions behind ``version`` (0: on-policy).

    Groups keep their order and their other trajectories; a group left with none is dropped whole. Nothing
    given is changed.
    """
    count, kept = StalenessCount(), []
    for group in groups:
        ages = [staleness(trajectory, version) for trajectory in group.trajectories]
        fresh = [age for age in ages if age <= max_staleness]
        count.accepted += len(fresh)
        count.dropped += len(ages) - len(fresh)
        count.total += sum(fresh)
        count.largest = max([count.largest, *fresh])
        trajectories = [t for t, age in zip(group.trajectories, ages, strict=True) if age <= max_staleness]
        if trajectories:
            kept.append(Group(group.group_id, group.task_id, trajectories))
    return kept, count
