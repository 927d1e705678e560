"""Haystacks of documents with the questions of HotpotQA, 2WikiMultihopQA and MuSiQue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from env.config import EnvConfig, HaystackConfig
from env.tasks import TaskStream, make_source
from env.types import Question, Task
from evaluation.official import musique_scores
from evaluation.suite import Suite


class HotpotQA(Suite):
    """Official records (all of the file) among `docs` documents; the same questions whatever `docs` is."""

    dataset: ClassVar[Literal["hotpotqa", "2wikimultihopqa", "musique"]] = "hotpotqa"
    data: str = Field(description="the official file, or a hub name")
    docs: int = Field(200, ge=1)
    corpus: str | None = Field(None, description="passages to distract with; None: the data's own contexts")
    questions: int = Field(10, ge=1, le=10, description="1 in half of the tasks, else 2 to this")
    skip_bad: bool = False

    def tasks(self, count: int, seed: int) -> Sequence[Task]:
        """Tasks in a random order of the records. Raises UserError for data that cannot be used."""
        haystack = HaystackConfig(
            documents=self.docs, questions_max=self.questions, corpus=self.corpus, skip_bad=self.skip_bad
        )
        config = EnvConfig(task=self.dataset, data=self.data, eval_data=self.data, haystack=haystack)
        source = make_source(config, "eval", seed)
        stream = TaskStream(source, seed)
        return [stream.at(position) for position in range(min(count, len(source)))]


class TwoWiki(HotpotQA):
    """2WikiMultihopQA: HotpotQA's scores, the best over the answer's aliases."""

    dataset = "2wikimultihopqa"


class Musique(HotpotQA):
    """MuSiQue: SQuAD's scores, without HotpotQA's rule for yes and no."""

    dataset = "musique"

    def scores(self, answer: str | None, question: Question) -> dict[str, float]:
        """As MuSiQue's evaluation does."""
        return musique_scores(answer, question.answers)
