"""What the training loop remembers from one iteration to the next, and what one iteration works on."""

from __future__ import annotations

from dataclasses import dataclass, field

from rollout.types import Group


@dataclass
class LoopState:
    """All that the loop itself has to remember: finished iterations, tasks taken, the policy's version, and the
    tasks that failed whenever they were tried."""

    step: int = 0
    position: int = 0
    policy_version: int = 0
    quarantined: list[str] = field(default_factory=list)

    def counters(self) -> dict[str, float]:
        """The state as part of an iteration's row."""
        counts = {"step": self.step, "position": self.position, "policy_version": self.policy_version}
        return {**counts, "tasks/quarantined": float(len(self.quarantined))}


@dataclass
class Batch:
    """Groups for one update, in the order of sampling, and the position in the task stream after them."""

    end: int
    groups: list[Group] = field(default_factory=list)  # to learn from
    sampled: list[Group] = field(default_factory=list)  # these and those that were dropped
    seconds: float = 0.0
