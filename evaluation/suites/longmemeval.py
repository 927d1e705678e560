"""LongMemEval (arXiv 2410.10813): one question about many chat sessions, of six types or not answerable at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic import Field

from env.errors import UserError
from env.qa_files import raw_records
from env.types import Question, Task
from evaluation.suite import Suite

ABSTENTION = "abstention"
RUBRICS = {
    "temporal-reasoning": "A number of days, weeks or months that is off by one is still correct.",
    "knowledge-update": "Naming earlier values as well is fine as long as the latest one is given as the answer.",
    "single-session-preference": "The accepted answer describes what a good answer makes use of: an answer is correct "
    "if it recalls the user's personal information and uses it rightly; it need not meet every point.",
    ABSTENTION: "The question cannot be answered; the accepted answer explains why. An answer is correct if it says "
    "that the information is missing or incomplete.",
}
PARTIAL = "An answer that has only a part of the required information is incorrect."


class LongMemEval(Suite):
    """Records of longmemeval_s, _m or _oracle. The official score is a judge's verdict: set `evaluation.judge`."""

    headline: ClassVar[str] = "judge"
    data: str = Field(description="longmemeval_s.json or one like it")

    def tasks(self, count: int, seed: int) -> Sequence[Task]:
        """One task a record, in the file's order."""
        records = list(raw_records(self.data, "train"))[:count]
        return [self._task(raw.value, raw.number) for raw in records]

    def rubric(self, question: Question) -> str:
        """What the official prompt for this type of question says."""
        return RUBRICS.get(question.kind, PARTIAL)

    def _task(self, record: Any, number: int) -> Task:
        try:
            name = record["question_id"]
            kind = ABSTENTION if "_abs" in name else record["question_type"]
            text = f"(Asked on {record['question_date']}) {record['question']}"
            question = Question(text, (str(record["answer"]),), kind)
            return Task(name, tuple(_turns(record)), (question,), {"dataset": "longmemeval"})
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.data}, record {number}: not a LongMemEval record ({error!r})") from error


def _turns(record: dict[str, Any]) -> Iterator[str]:
    for date, session in zip(record["haystack_dates"], record["haystack_sessions"], strict=True):
        for turn in session:
            yield f"[{date}] {turn['role']}: {turn['content']}"
