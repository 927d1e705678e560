"""Errors that reach a user or decide which boundary an episode failed at."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user can put right: the command line prints it as one line and exits with code 2."""


class TaskError(UserError):
    """A task that no episode can be run on."""


class EmbeddingError(RuntimeError):
    """The embedder failed or answered something unusable."""


class JudgeError(RuntimeError):
    """The judge failed, timed out, or answered something unusable."""
