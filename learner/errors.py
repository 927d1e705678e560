"""Errors of the learner that a run can recover from."""

from __future__ import annotations


class LearnerError(RuntimeError):
    """A worker died or fell silent: the group is of no use until it is restarted from a checkpoint."""


class LearnerSilent(LearnerError):
    """Workers that live, but owe an answer for too long: where they hang is worth a look before they are ended."""
