"""The frame of a suite: where its tasks come from, and its official scores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from env.config import Section
from env.metrics import scores
from env.types import Question, Task


class Suite(Section):
    """A benchmark. Its fields are its options; `headline` names the score that its tables are ordered by."""

    headline: ClassVar[str] = "em"

    @abstractmethod
    def tasks(self, count: int, seed: int) -> Sequence[Task]:
        """At most `count` tasks, the same for the same seed."""

    def scores(self, answer: str | None, question: Question) -> dict[str, float]:
        """em, f1 and cover_em as the benchmark's own evaluation computes them, and `official` where it has another.

        None is a question that was never answered."""
        return scores(answer, question.answers)

    def rubric(self, question: Question) -> str:
        """What a judge has to know beyond the accepted answers; empty where there is nothing."""
        return ""
