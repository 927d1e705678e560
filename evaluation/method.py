"""The frame of a method: read a long text chunk by chunk, then answer each question from what is recalled.

    reset --> read(chunks): any number of model calls --> for each question: recall(question) --> answer prompt

A method is a subclass of `Method` that overrides `read`, `recall` or both. It runs as any environment does
(`rollout.episode.Environment`): every model call is one step, with its record. Memory is the same store, the
answer prompt the same template as AtomMem's, so methods differ in nothing but how they remember.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from env.chunking import chunks
from env.config import RewardConfig
from env.errors import TaskError
from env.memory import Entry, MemoryStore
from env.memory_env import EpisodeResult
from env.operations import DIALECTS, Answer, parse, parse_reply
from env.rewards import episode_reward
from env.types import AnswerRecord, Message, OperationRecord, StepRecord, Task
from evaluation.method_steps import Ask, Parts, Prompts, Recalled, Step

__all__ = ["Ask", "Method", "Parts", "Recalled"]


class Method:
    """Base of all methods; a plain one stores the chunks as they are and recalls the nearest."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.config = parts, parts.config
        self._dialect = DIALECTS[parts.config.dialect]

    # -- what a method overrides -----------------------------------------------------------------------------------

    async def read(self, chunks: Sequence[str]) -> AsyncGenerator[Ask, str]:
        """Take in the text; `reply = yield Ask(...)` calls the model. Here: store every chunk, call nothing."""
        await self.store(chunks)
        return
        yield  # makes this a generator

    async def recall(self, question: str) -> Recalled:
        """What to show with a question. Here: the `env.top_k` nearest entries."""
        return Recalled(await self.search(question, self.config.top_k))

    # -- what a method uses ----------------------------------------------------------------------------------------

    async def store(self, contents: Sequence[str]) -> list[int | None]:
        """Add entries; their ids, None for what a full store discarded."""
        if not contents:
            return []
        vectors = await self.parts.embedder.embed(contents, "passage")
        ids = [self.memory.create(content, vector) for content, vector in zip(contents, vectors, strict=True)]
        for content, entry_id in zip(contents, ids, strict=True):
            self.note("create", content, entry_id, "discarded" if entry_id is None else "ok")
        return ids

    async def rewrite(self, entry_id: int, content: str) -> None:
        """Replace an entry's content."""
        self.memory.update(entry_id, content, (await self.parts.embedder.embed([content], "passage"))[0])
        self.note("update", content, entry_id)

    async def search(self, query: str, k: int) -> list[Entry]:
        """The k entries nearest to a query; counted as one retrieval."""
        self.counts["retrievals"] += 1
        return self.memory.search((await self.parts.embedder.embed([query], "query"))[0], k)

    def note(self, kind: str, text: str, entry_id: int | None = None, outcome: str = "ok") -> None:
        """Put an operation into the record of the step that it follows."""
        self._operations.append(OperationRecord(kind, text, entry_id, outcome))
        self.counts[f"ops/{kind}"] += 1

    # -- the environment protocol ----------------------------------------------------------------------------------

    async def reset(self, task: Task) -> list[Message]:
        """Start an episode. Raises TaskError for an empty task, or when a call does not fit into the window."""
        if not task.questions or not any(unit.strip() for unit in task.units):
            raise TaskError(f"task {task.task_id}: needs a text and at least one question")
        self.task, self.counts, self._prompts = task, Counter[str](), Prompts(self.parts, task)
        self.memory = MemoryStore(self.parts.embedder.dim, self.config.capacity)
        self._answers = [AnswerRecord(q.text, q.kind, q.answers, None) for q in task.questions]
        self._operations: list[OperationRecord] = []
        before, self._reward = self._operations, 0.0
        self._steps = self._play(chunks(task, self.parts.tokenizer, self.config))
        self._step = await anext(self._steps)
        self._step.record.before = before
        return self._step.messages

    async def step(
        self, text: str, tokens: int = 0
    ) -> tuple[list[Message] | None, float, bool, bool, StepRecord]:
        """Give the model's text to the method; see `rollout.episode.Environment.step`."""
        record = self._step.record
        record.output, self._operations = text, record.operations
        self.counts.update(steps=1, retrieved_cut=record.retrieved_cut)
        following = await _next(self._steps, text)
        record.store_size = len(self.memory)
        if following is not None:
            self._step = following
            return following.messages, 0.0, False, False, record
        self._reward = await episode_reward(self._answers, 1.0, RewardConfig(metric="em"), None)
        return None, self._reward, True, False, record

    def result(self) -> EpisodeResult:
        """Reward, answers and counts; `retrievals` and `retrieved_cut` (tokens that did not fit) among them."""
        store = {"store/size": len(self.memory), "store/discarded": self.memory.discarded, "truncated": 0}
        counts: dict[str, Any] = {"retrievals": 0, "retrieved_cut": 0} | self.counts | store
        return EpisodeResult(self._reward, self._answers, {key: float(value) for key, value in counts.items()})

    async def _play(self, pieces: Sequence[str]) -> AsyncGenerator[Step, str]:
        self.counts["chunks"] = len(pieces)
        reading, reply = self.read(pieces), None
        while (ask := await _next(reading, reply)) is not None:
            reply = yield self._prompts.reading(ask)
        for position, question in enumerate(self.task.questions):
            recalled = await self.recall(question.text)
            self._answer(position, (yield self._prompts.asking(position, recalled, len(self.memory))))

    def _answer(self, position: int, text: str) -> None:
        operations = (parse_reply if self.config.untagged_answers else parse)(text, self._dialect)
        for operation in operations:
            if isinstance(operation, Answer):
                self._answers[position].answer = operation.text
                self.note("answer", operation.text)


async def _next(generator: AsyncGenerator[Any, Any], reply: Any) -> Any:
    """Send a reply (None at first) and return what comes next; None at the end."""
    try:
        return await generator.asend(reply)
    except StopAsyncIteration:
        return None
