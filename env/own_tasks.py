"""Your own tasks as JSONL: one object a line with a long text and the questions asked after it.

    {"id": "t1", "text": ["first paragraph", "second paragraph"], "questions": [{"text": "Who?", "answers": ["Ada"]}]}
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from env.errors import UserError
from env.metrics import normalize
from env.qa_files import raw_records
from env.types import Question, Task


class OwnQuestion(BaseModel):
    """A question with every accepted answer; `kind` groups questions in the report."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1)
    answers: list[str] = Field(min_length=1)
    kind: str = ""


class OwnTask(BaseModel):
    """One line of the file. `text` is one string, or the paragraphs that a chunk should not split."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = None
    text: str | list[str] = Field(min_length=1)
    questions: list[OwnQuestion] = Field(min_length=1)

    @field_validator("text")
    @classmethod
    def _not_blank(cls, text: str | list[str]) -> str | list[str]:
        if not "".join(text).strip():
            raise ValueError("is blank")
        return text


class JsonlSource:
    """The tasks of a JSONL (or JSON list) file, in order. Raises UserError naming file, line and field."""

    def __init__(self, path: str) -> None:
        self._tasks = [_task(path, raw.number, raw.value, raw.error) for raw in raw_records(path, "train")]
        self.question_keys = [frozenset(normalize(q.text) for q in task.questions) for task in self._tasks]

    def __len__(self) -> int:
        return len(self._tasks)

    def __getitem__(self, index: int) -> Task:
        return self._tasks[index]


def _task(path: str, number: int, value: object, error: str | None) -> Task:
    if error is not None:
        raise UserError(f"{path}, line {number}: {error}")
    try:
        own = OwnTask.model_validate(value)
    except ValidationError as problem:
        first = problem.errors()[0]
        field = ".".join(map(str, first["loc"])) or "line"
        raise UserError(f"{path}, line {number}: '{field}': {first['msg']}") from problem
    units = (own.text,) if isinstance(own.text, str) else tuple(own.text)
    questions = tuple(Question(q.text, tuple(q.answers), q.kind) for q in own.questions)
    return Task(own.id or f"line-{number}", units, questions)
