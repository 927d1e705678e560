"""Counting failed episodes, and the point at which there are too many to go on."""

from __future__ import annotations

from collections import Counter

from rollout.errors import RolloutError
from rollout.types import Failure, Group


class FailureTally:
    """Failures of one batch, by boundary.

    Args:
        episodes: in the whole batch.
        max_share: of them that may fail.
    """

    def __init__(self, episodes: int, max_share: float) -> None:
        self._episodes, self._max_share = episodes, max_share
        self.counts: Counter[str] = Counter()

    def add(self, group: Group) -> None:
        """Count a finished group. Raises RolloutError, with boundaries and a reason, when it is too much."""
        failures = [trajectory.failure for trajectory in group.trajectories if trajectory.failure]
        self.counts.update(failure.boundary for failure in failures)
        if failures and self.counts.total() > self._max_share * self._episodes:
            raise RolloutError(self._message(failures[-1]))

    def _message(self, latest: Failure) -> str:
        boundaries = ", ".join(f"{count} at the {name} boundary" for name, count in self.counts.most_common())
        return (
            f"{self.counts.total()} of {self._episodes} episodes failed, more than "
            f"rollout.max_failed_share = {self._max_share:g}: {boundaries}; the latest ({latest.boundary}): "
            f"{latest.message}"
        )
