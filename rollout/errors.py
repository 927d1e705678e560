"""Errors of the rollout side. What an episode's failure is attributed to follows from the class."""

from __future__ import annotations

from env.errors import UserError


class EngineError(RuntimeError):
    """No policy engine could answer: dead, unhealthy, or silent for longer than its time-out."""


class PromptTooLongError(ValueError):
    """A prompt that leaves no room to generate: the environment's mistake, no other engine would mend it."""


class WeightUpdateError(RuntimeError):
    """An update was refused before anything was touched: the engine goes on with the weights it had."""


class RolloutError(UserError):
    """The rollout cannot go on: engines that do not start, too many failed episodes, or no progress."""


class StartError(RolloutError):
    """An actor died, or raised an error, while it started: chance the first time, hardly so again."""
