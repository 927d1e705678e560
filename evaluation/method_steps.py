"""The steps of a method's episode: what the model is shown while reading and at a question, cut to its window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from env.chunking import cut
from env.config import EnvConfig
from env.embedding import BatchedEmbedder
from env.errors import TaskError
from env.memory import Entry
from env.prompt import PromptTemplate, ShownEntry, View
from env.tokenizer import ChatTokenizer
from env.types import Message, Phase, StepRecord, Task

Render = Callable[[Sequence[Entry]], list[Message]]


@dataclass(frozen=True)
class Parts:
    """What all episodes of a variant share."""

    config: EnvConfig
    tokenizer: ChatTokenizer
    embedder: BatchedEmbedder
    max_prompt_tokens: int


@dataclass(frozen=True)
class Ask:
    """One model call while reading: a text (the chunk at `position`), entries shown with it, and what to do."""

    text: str
    instructions: str
    position: int
    entries: Sequence[Entry] = ()
    scratchpad: str = ""


@dataclass(frozen=True)
class Recalled:
    """What is shown when a question is asked: entries, best first, and a text that is always shown."""

    entries: Sequence[Entry] = ()
    scratchpad: str = ""


@dataclass
class Step:
    """What the model is shown, and the record that its answer completes."""

    messages: list[Message]
    record: StepRecord


class Prompts:
    """Makes the steps of one task. The answer prompt is that of the memory environment, without its operations."""

    def __init__(self, parts: Parts, task: Task) -> None:
        self._parts, self._task = parts, task
        self._template = PromptTemplate(parts.config.model_copy(update={"operations": ["scratchpad"]}))

    def reading(self, ask: Ask) -> Step:
        """A call while reading: the text, the entries shown with it, the instructions."""

        def render(shown: Sequence[Entry]) -> list[Message]:
            parts = [ask.text, *(f"{entry.entry_id}: {entry.content}" for entry in shown)]
            return [Message(role="user", content="\n\n".join([*parts, ask.instructions]))]

        return self._fit(render, ask.entries, ("chunk", ask.position, ask.text), None, ask.scratchpad)

    def asking(self, position: int, recalled: Recalled, size: int) -> Step:
        """A question with what is recalled; `size` is the number of entries in memory."""
        question = self._task.questions[position].text

        def render(shown: Sequence[Entry]) -> list[Message]:
            view = View(
                phase="question",
                position=position + 1,
                total=len(self._task.questions),
                chunk="",
                question=question,
                questions=tuple(q.text for q in self._task.questions),
                scratchpad=recalled.scratchpad,
                query=question if recalled.entries else None,
                retrieved=tuple(ShownEntry(entry.entry_id, entry.content) for entry in shown),
                size=size,
                reads_left=0,
            )
            return self._template.messages(view)

        at: tuple[Phase, int, str] = ("question", position, question)
        return self._fit(render, recalled.entries, at, question, recalled.scratchpad)

    def _fit(
        self,
        render: Render,
        entries: Sequence[Entry],
        at: tuple[Phase, int, str],
        query: str | None,
        scratchpad: str,
    ) -> Step:
        """The step's messages, with entries cut from the last one on until they fit; cut tokens are counted."""
        tokenizer, window = self._parts.tokenizer, self._parts.max_prompt_tokens
        over = len(tokenizer.encode_chat(messages := render(entries))) - window
        shown, lost = list(entries), 0
        while over > 0:
            if not shown:
                raise TaskError(
                    f"task {self._task.task_id}: the prompt exceeds the window of {window} tokens by {over}; "
                    f"lower env.chunk_tokens ({self._parts.config.chunk_tokens})"
                )
            last = shown.pop()
            length = len(tokenizer.encode(last.content))
            kept = cut(last.content, tokenizer, length - over - 1)[0] if length > over + 1 else ""
            shown += [Entry(last.entry_id, kept, last.score)] if kept else []
            lost += length - len(tokenizer.encode(kept))
            over = len(tokenizer.encode_chat(messages := render(shown))) - window
        retrieved = [(entry.entry_id, entry.content) for entry in shown]
        phase, position, text = at
        record = StepRecord(phase, position, text, query, retrieved, scratchpad, "", retrieved_cut=lost)
        return Step(messages, record)
