"""What an episode is made of: frozen task data, chat messages, and the record that each step leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

Phase = Literal["chunk", "question"]


class Message(TypedDict):
    """One chat message, as chat templates take it."""

    role: str
    content: str


@dataclass(frozen=True)
class Question:
    """A question with every accepted answer (at least one; the first is the canonical one)."""

    text: str
    answers: tuple[str, ...]
    kind: str = ""


@dataclass(frozen=True)
class Task:
    """One episode's input: the units of a long text in reading order, and the questions asked after it.

    A unit is what a chunk should not split when it fits (a document, a sentence, a conversation turn).
    """

    task_id: str
    units: tuple[str, ...]
    questions: tuple[Question, ...]
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class OperationRecord:
    """One parsed operation and what became of it; plain values, so that it travels as JSON."""

    kind: str  # create | read | update | delete | scratchpad | answer | invalid
    text: str  # content, query or answer; for `invalid` the offending text
    entry_id: int | None = None  # stable id, where the operation concerns an entry
    outcome: str = "ok"  # ok | discarded (the store was full) | the reason why it was invalid


@dataclass
class StepRecord:
    """What one step showed and did: enough to replay the episode in a viewer without the tokens."""

    phase: Phase
    position: int  # index of the chunk or of the question
    text: str  # the chunk or the question
    query: str | None  # the query whose results were shown
    retrieved: list[tuple[int, str]]  # (entry id, content) as shown
    scratchpad: str  # as shown
    output: str  # the model's text
    operations: list[OperationRecord] = field(default_factory=list)
    store_size: int = 0  # after the step
    retrieved_cut: int = 0  # retrieved tokens that did not fit into the window
    before: list[OperationRecord] = field(default_factory=list)  # done before this step without the model: an index


@dataclass
class AnswerRecord:
    """The answer to one question and its scores."""

    question: str
    kind: str
    gold: tuple[str, ...]
    answer: str | None  # None: the episode never answered it
    scores: dict[str, float] = field(default_factory=dict)
