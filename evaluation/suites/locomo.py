"""LoCoMo (arXiv 2402.17753): questions of five categories about long conversations between two people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic import Field

from env.errors import UserError
from env.qa_files import raw_records
from env.types import Question, Task
from evaluation.official import locomo_score
from evaluation.suite import Suite

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
NOT_MENTIONED = "Not mentioned in the conversation"


class LoCoMo(Suite):
    """A task is one conversation with `questions` of its questions; a conversation makes several tasks."""

    headline: ClassVar[str] = "official"
    data: str = Field(description="locomo10.json")
    questions: int = Field(10, ge=1, description="per task")

    def tasks(self, count: int, seed: int) -> Sequence[Task]:
        """Round robin over the conversations, so that few tasks still see them all."""
        parts = [list(self._parts(raw.value, raw.number)) for raw in raw_records(self.data, "train")]
        rounds = [[part[i] for part in parts if i < len(part)] for i in range(max(map(len, parts)))]
        return [task for tasks in rounds for task in tasks][:count]

    def scores(self, answer: str | None, question: Question) -> dict[str, float]:
        """LoCoMo's own F1 beside the others."""
        return super().scores(answer, question) | {
            "official": locomo_score(answer, question.answers[0], question.kind)
        }

    def _parts(self, record: Any, number: int) -> Iterator[Task]:
        try:
            units = tuple(_turns(record["conversation"]))
            questions = [_question(qa) for qa in record["qa"]]
            name = record["sample_id"]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.data}, record {number}: not a LoCoMo conversation ({error!r})") from error
        # Stride, not slices: the file groups questions by category.
        count = -(-len(questions) // self.questions)
        for part in range(count):
            yield Task(f"{name}-{part}", units, tuple(questions[part::count]), {"dataset": "locomo"})


def _turns(conversation: dict[str, Any]) -> Iterator[str]:
    sessions = sorted(int(key.split("_")[1]) for key in conversation if key.count("_") == 1 and key[-1].isdigit())
    for session in sessions:
        date = conversation[f"session_{session}_date_time"]
        for turn in conversation[f"session_{session}"]:
            picture = f" (shows a picture: {turn['blip_caption']})" if turn.get("blip_caption") else ""
            yield f"[{date}] {turn['speaker']}: {turn['text']}{picture}"


def _question(qa: dict[str, Any]) -> Question:
    """The question as it is asked: dates are asked for with a hint, adversarial ones with the choice to decline."""
    kind, text = CATEGORIES[qa["category"]], qa["question"]
    if kind == "adversarial":
        choices = " or ".join(sorted([NOT_MENTIONED, str(qa["adversarial_answer"])]))
        return Question(f"{text} Choose one of: {choices}.", (NOT_MENTIONED,), kind)
    hint = " Answer with a date, going by the dates of the conversation." if kind == "temporal" else ""
    return Question(text + hint, (str(qa["answer"]),), kind)
