"""One unit of a session's work: played with the environment of training, then committed as a whole or not at all."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from cluster.serving.config import ServingConfig
from cluster.serving.live import Live
from cluster.serving.repository import Repository, Work
from cluster.serving.schemas import Commit, Step
from cluster.serving.views import commit_view, step_view, usage_of
from env.embedding import BatchedEmbedder
from env.memory_env import Continuation, MemoryEnv
from env.tokenizer import ChatTokenizer
from env.types import StepRecord, Task
from rollout.episode import turns
from rollout.types import Generator, Turn


@dataclass(frozen=True)
class Parts:
    """What all units of a replica share."""

    config: ServingConfig
    tokenizer: ChatTokenizer
    embedder: BatchedEmbedder
    generator: Generator

    @property
    def max_prompt_tokens(self) -> int:
        """The engine's window less what one turn may generate."""
        return self.config.engine.max_model_len - self.config.sampling.max_new_tokens


class Unit:
    """A chunk or a question on a session that is held, or an edit (nothing to play)."""

    def __init__(self, parts: Parts, repository: Repository, session_id: str, live: Live) -> None:
        self._parts, self._repository, self._session_id, self._live = parts, repository, session_id, live
        self._turns: list[Turn] = []
        self.env = MemoryEnv(
            live.env, parts.tokenizer, parts.embedder, max_prompt_tokens=parts.max_prompt_tokens
        )

    async def play(self, task: Task, start: Continuation) -> AsyncIterator[Turn]:
        """The turns, as the policy takes them; they change the live memory, not the database."""
        parts, affinity = self._parts, zlib.crc32(self._session_id.encode())
        first = await self.env.reset(task, start)
        seed = affinity + self._live.version
        async for turn in turns(
            self.env, first, parts.generator, parts.tokenizer, parts.config.sampling, affinity, lambda n: seed + n
        ):
            self._turns.append(turn)
            yield turn

    async def commit(self, work: Work) -> Commit:
        """Write the unit; only then is the live session at its new version. Raises Moved, NotFound."""
        if self._turns:
            steps = [await self.step(turn.record) for turn in self._turns]
            model = f"{self._parts.config.name}:{self._turns[-1].policy_version}"
            played = {"steps": [step.model_dump() for step in steps], "usage": usage_of(self._turns).model_dump()}
            work = replace(work, body={**work.body, **played, "model": model})
        row = await self._repository.commit(self._session_id, self._live.version, work)
        self._live.store.log.clear()
        self._live.version, self._live.query = row.version, work.query
        return commit_view(row)

    async def step(self, record: StepRecord) -> Step:
        """A step as the API shows it, with the source of every entry that the agent saw."""
        shown = [entry_id for entry_id, _ in record.retrieved]
        sources = await self._repository.entries_by_id(self._session_id, shown) if shown else {}
        return step_view(record, sources)
