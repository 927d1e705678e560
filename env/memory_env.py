"""MemoryEnv: one episode of reading a long text chunk by chunk and answering from memory, over text.

The observation is a list of chat messages, the action is the model's text. An instance lives in asyncio and owns its
memory; nothing is shared with other episodes but the (stateless) embedder and judge.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from env.chunking import chunks, cut
from env.config import EnvConfig
from env.embedding import BatchedEmbedder
from env.errors import TaskError
from env.judge import Judge
from env.memory import Entry, MemoryStore
from env.operations import DIALECTS, KINDS, Create, Invalid, Operation, Scratchpad, Update, parse, parse_reply
from env.prompt import PromptTemplate, ShownEntry, View
from env.rewards import episode_reward
from env.tokenizer import ChatTokenizer
from env.transition import Memory, apply
from env.types import AnswerRecord, Message, OperationRecord, Phase, StepRecord, Task


@dataclass
class EpisodeResult:
    """What an episode came to."""

    reward: float
    answers: list[AnswerRecord]
    metrics: dict[str, float]


@dataclass
class _Cursor:
    """Where the episode stands."""

    phase: Phase = "chunk"
    position: int = 0
    reads: int = 0  # consecutive steps at this chunk or question that only read
    steps: int = 0
    tokens: int = 0


@dataclass
class _Retrieval:
    query: str | None = None
    entries: list[Entry] = field(default_factory=list)
    shown: list[Entry] = field(default_factory=list)  # what of them fits
    tokens: int = 0  # of what is shown
    cut_tokens: int = 0


@dataclass(frozen=True)
class Continuation:
    """Begin with a memory that is there already: a part of a text that was cut before, or nothing but questions."""

    memory: MemoryStore
    chunks: tuple[str, ...] = ()
    before: int = 0  # chunks of the same text that were read earlier
    total: int = 0  # chunks of the whole text
    focus: tuple[str, ...] = ()  # questions kept in view that this episode does not ask
    query: str | None = None  # a Read of the step before, whose result is shown first


class MemoryEnv:
    """Reset with a task, then step with the model's texts until terminated or truncated.

    Args:
        config: the environment's configuration.
        tokenizer: of the policy; chunks and windows are counted in its tokens.
        embedder: shared by many episodes.
        judge: needed when `config.reward.metric` is "judge".
        max_prompt_tokens: the model's window less what it may generate in one step.
    """

    def __init__(
        self,
        config: EnvConfig,
        tokenizer: ChatTokenizer,
        embedder: BatchedEmbedder,
        judge: Judge | None = None,
        max_prompt_tokens: int = 32768,
    ) -> None:
        self._config, self._tokenizer, self._embedder, self._judge = config, tokenizer, embedder, judge
        self._max_prompt_tokens = max_prompt_tokens
        self._dialect = DIALECTS[config.dialect]
        self._template = PromptTemplate(config)

    async def reset(self, task: Task, start: Continuation | None = None) -> list[Message]:
        """Start an episode with an empty memory, or as `start` says (the task's units are not used then, and it
        need not ask anything); returns the first observation.

        Raises:
            TaskError: the task has no text or no question, or a chunk does not fit into the model's window.
            EmbeddingError: from the search for `start.query`.
        """
        self._task, self._start = task, start or self._beginning(task)
        if not task.questions and not self._start.chunks:
            raise TaskError(f"task {task.task_id}: nothing to read and nothing to ask")
        self._chunks, self.memory = self._start.chunks, self._start.memory
        self._cursor, self._retrieval = _Cursor("chunk" if self._chunks else "question"), _Retrieval()
        self._answers = [AnswerRecord(q.text, q.kind, q.answers, None) for q in task.questions]
        self._counts: Counter[str] = Counter()
        self._reward, self._done = 0.0, False
        self._random = random.Random(task.task_id)
        self._budget = self._config.max_steps or (
            (len(self._chunks) + len(task.questions)) * (self._config.max_reads + 1)
        )
        await self._retrieve(self._start.query)
        return self._observe()

    def _beginning(self, task: Task) -> Continuation:
        if not task.questions or not any(unit.strip() for unit in task.units):
            raise TaskError(f"task {task.task_id}: needs a text and at least one question")
        cut_text = chunks(task, self._tokenizer, self._config)
        return Continuation(MemoryStore(self._embedder.dim, self._config.capacity), cut_text, total=len(cut_text))

    @property
    def query(self) -> str | None:
        """The query whose result is shown at the next step (`Continuation.query` of what comes next)."""
        return self._retrieval.query

    async def step(self, text: str, tokens: int = 0) -> tuple[list[Message] | None, float, bool, bool, StepRecord]:
        """Apply one model output of `tokens` generated tokens.

        Returns:
            observation (None at the end), reward (0 before the end), terminated, truncated (out of steps or tokens),
            and the record of the step.

        Raises:
            EmbeddingError, JudgeError: from the services the environment calls.
        """
        if self._done:
            raise RuntimeError("the episode has ended: call reset")
        record = self._record(text)
        record.operations = await self._apply([self._limited(op) for op in self._parse(text)])
        record.store_size = len(self.memory)
        queries = [op.text for op in record.operations if op.kind == "read" and op.outcome == "ok"]
        await self._retrieve(queries[-1] if queries else None)
        self._cursor.steps += 1
        self._cursor.tokens += tokens
        self._counts.update(operation.kind for operation in record.operations)
        self._advance(record)
        return await self._outcome(record)

    def result(self) -> EpisodeResult:
        """Reward, answers and metrics of the episode so far."""
        kinds = list(KINDS.values())
        metrics = {f"ops/{kind}": float(self._counts[kind]) for kind in kinds}
        metrics |= {
            "steps": float(self._cursor.steps),
            "chunks": float(len(self._chunks)),
            "store/size": float(len(self.memory)),
            "store/discarded": float(self.memory.discarded),
            "retrieved_cut": float(self._counts["retrieved_cut"]),
            "truncated": float(self._counts["truncated"]),
        }
        return EpisodeResult(self._reward, self._answers, metrics)

    # -- what is shown ---------------------------------------------------------------------------------------------

    def _observe(self) -> list[Message]:
        """The messages for the current position; retrieved text is cut until they fit into the window."""
        limit = self._config.retrieved_tokens
        while True:
            self._cut_retrieval(limit)
            self.view = self._view()
            messages = self._template.messages(self.view)
            over = len(self._tokenizer.encode_chat(messages)) - self._max_prompt_tokens
            if over <= 0:
                self._counts["retrieved_cut"] += self._retrieval.cut_tokens
                return messages
            if not self._retrieval.shown:
                raise TaskError(
                    f"task {self._task.task_id}: the prompt exceeds the window of {self._max_prompt_tokens} tokens by "
                    f"{over} without any retrieved text; lower env.chunk_tokens ({self._config.chunk_tokens})"
                )
            limit = max(0, min(limit, self._retrieval.tokens) - over)

    def _cut_retrieval(self, limit: int) -> None:
        """Show the retrieved entries within `limit` tokens, best first; count the tokens cut off."""
        retrieval = self._retrieval
        retrieval.shown, retrieval.cut_tokens, retrieval.tokens = [], 0, 0
        for entry in retrieval.entries:
            length = len(self._tokenizer.encode(entry.content))
            content, over = cut(entry.content, self._tokenizer, max(limit - retrieval.tokens, 0))
            retrieval.tokens += length - over
            retrieval.cut_tokens += over
            if content:
                retrieval.shown.append(Entry(entry.entry_id, content, entry.score))

    def _view(self) -> View:
        cursor, in_chunks = self._cursor, self._cursor.phase == "chunk"
        asked = [question.text for question in self._task.questions]
        return View(
            phase=cursor.phase,
            position=cursor.position + 1 + (self._start.before if in_chunks else 0),
            total=self._start.total if in_chunks else len(asked),
            chunk=self._chunks[cursor.position] if in_chunks else "",
            question="" if in_chunks else self._task.questions[cursor.position].text,
            questions=(*(text for text in self._start.focus if text not in asked), *asked),
            scratchpad=self.memory.scratchpad,
            query=self._retrieval.query,
            retrieved=tuple(map(self._labelled, range(len(self._retrieval.shown)))),
            size=len(self.memory),
            reads_left=self._config.max_reads - cursor.reads,
        )

    def _labelled(self, rank: int) -> ShownEntry:
        entry = self._retrieval.shown[rank]
        positional = self._dialect.positional
        return ShownEntry(rank + self._dialect.first_position if positional else entry.entry_id, entry.content)

    def _record(self, text: str) -> StepRecord:
        view = self.view
        return StepRecord(
            phase=view.phase,
            position=self._cursor.position,
            text=view.chunk or view.question,
            query=view.query,
            retrieved=[(entry.entry_id, entry.content) for entry in self._retrieval.shown],
            scratchpad=view.scratchpad,
            output=text,
            retrieved_cut=self._retrieval.cut_tokens,
        )

    # -- what is done ----------------------------------------------------------------------------------------------

    def _parse(self, text: str) -> list[Operation]:
        untagged = self._config.untagged_answers and self._cursor.phase == "question"
        return (parse_reply if untagged else parse)(text, self._dialect)

    async def _apply(self, operations: list[Operation]) -> list[OperationRecord]:
        """Apply the operations in order; their contents are embedded in one request."""
        contents = [op.content for op in operations if isinstance(op, Create | Update)]
        vectors = iter(await self._embedder.embed(contents, "passage") if contents else [])
        memory = Memory(self.memory, self._label_to_id, self._cursor.phase, frozenset(self._config.operations))
        records = []
        for operation in operations:
            vector = next(vectors) if isinstance(operation, Create | Update) else None
            records.append(apply(operation, vector, memory))
        return records

    def _limited(self, operation: Operation) -> Operation:
        if not isinstance(operation, Scratchpad):
            return operation
        return Scratchpad(cut(operation.content, self._tokenizer, self._config.scratchpad_tokens)[0])

    def _label_to_id(self, label: int) -> int | None:
        if not self._dialect.positional:
            return label
        rank = label - self._dialect.first_position
        shown = self._retrieval.shown
        return shown[rank].entry_id if 0 <= rank < len(shown) else None

    async def _retrieve(self, query: str | None) -> None:
        """Set what the next step shows: the result of the last step's last valid query, or nothing."""
        self._retrieval = _Retrieval()
        if query is None:
            return
        if self._config.retrieval == "random":
            picked = list(self.memory.entries.items())
            found = [Entry(*item) for item in self._random.sample(picked, min(self._config.top_k, len(picked)))]
        else:
            vector = (await self._embedder.embed([query], "query"))[0]
            found = self.memory.search(vector, self._config.top_k)
        self._retrieval = _Retrieval(query, found)

    def _advance(self, record: StepRecord) -> None:
        """Move to the next chunk or question, unless this step earned another look."""
        done = [op for op in record.operations if op.outcome in ("ok", "discarded")]
        answers = [op.text for op in done if op.kind == "answer"]
        read = any(op.kind == "read" for op in done)
        cursor = self._cursor
        if cursor.phase == "chunk":
            stay = read and all(op.kind == "read" for op in done)
        else:
            stay = read and not answers
            if answers:
                self._answers[cursor.position].answer = answers[-1]
        if stay and cursor.reads < self._config.max_reads:
            cursor.reads += 1
            return
        cursor.reads = 0
        cursor.position += 1
        if cursor.phase == "question":
            self._retrieval = _Retrieval()
        elif cursor.position == len(self._chunks):
            cursor.phase, cursor.position = "question", 0

    async def _outcome(self, record: StepRecord) -> tuple[list[Message] | None, float, bool, bool, StepRecord]:
        cursor, budget = self._cursor, self._config.max_output_tokens
        terminated = cursor.phase == "question" and cursor.position == len(self._task.questions)
        truncated = not terminated and (
            cursor.steps >= self._budget or (budget is not None and cursor.tokens >= budget)
        )
        if not (terminated or truncated):
            return self._observe(), 0.0, False, False, record
        self._done = True
        self._counts["truncated"] += int(truncated)
        operations = sum(self._counts[kind] for kind in KINDS.values())
        valid_share = 1.0 - self._counts[KINDS[Invalid]] / operations if operations else 0.0
        if any(answer.gold for answer in self._answers):  # what a user asks has no gold answer
            self._reward = await episode_reward(self._answers, valid_share, self._config.reward, self._judge)
        return None, self._reward, terminated, truncated, record
