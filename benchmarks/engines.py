"""Real engines and episodes for the rollout benchmarks: episodes run in this process, the policy in vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cluster.config import RunConfig
from cluster.recipes import load_recipe
from cluster.rollouts import requests_for, stream_of
from cluster.session import ray_session
from env.embedding import BatchedEmbedder, make_embedder
from env.memory_env import MemoryEnv
from env.tokenizer import ChatTokenizer
from rollout.config import SamplingConfig
from rollout.episode import run_episode
from rollout.pool import EnginePool
from rollout.start import start_engines
from rollout.types import Completion, Generator, GroupRequest, Trajectory


def tiny(*overrides: str) -> RunConfig:
    """The tiny recipe with other values."""
    return load_recipe("recipes/tiny.yaml", overrides)


@contextmanager
def engines(config: RunConfig) -> Iterator[EnginePool]:
    """The recipe's engines, on a Ray of their own."""
    with ray_session(config.ray):
        pool = start_engines(config.model, config.rollout.engine, seed=config.seed, namespace_prefix="bench")
        try:
            yield pool
        finally:
            pool.shutdown()


def requests(config: RunConfig, tasks: int, group_size: int) -> list[GroupRequest]:
    """Groups for the first tasks of the recipe's stream."""
    return requests_for(config, stream_of(config), range(tasks), group_size, config.rollout.sampling)


def play(
    config: RunConfig, generator: Generator, groups: Sequence[GroupRequest], embedder: Any = None
) -> list[Trajectory]:
    """All episodes of all groups, each at its own pace; `embedder` in place of the recipe's."""
    tokenizer = ChatTokenizer(config.model)
    embedder = embedder or BatchedEmbedder(make_embedder(config.env.embedder))

    def make_env(request: GroupRequest) -> MemoryEnv:
        return MemoryEnv(config.env, tokenizer, embedder, max_prompt_tokens=config.max_prompt_tokens)

    async def one(request: GroupRequest, index: int) -> Trajectory:
        trajectory = await run_episode(make_env, generator, tokenizer, request, index)
        for part in (generator, getattr(generator, "engine", None)):
            if isinstance(part, Lockstep):
                part.leave()
        return trajectory

    async def every() -> list[Trajectory]:
        return await asyncio.gather(*(one(request, i) for request in groups for i in range(request.group_size)))

    trajectories = asyncio.run(every())
    if failed := next((t.failure for t in trajectories if t.failure), None):
        raise RuntimeError(f"an episode failed: {failed.message}")
    return trajectories


class Lockstep:
    """Steps all episodes together: a step's requests go out when every episode that still runs has made its own, and
    no episode goes on before all are answered."""

    def __init__(self, pool: EnginePool, episodes: int) -> None:
        self._pool, self._running = pool, episodes
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Completion]]] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None = None
    ) -> Completion:
        """Wait for the others, then for the batch."""
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append(((prompt_ids, sampling, affinity, seed), answer))
        self._send_when_full()
        return await answer

    def leave(self) -> None:
        """An episode has ended."""
        self._running -= 1
        self._send_when_full()

    def _send_when_full(self) -> None:
        if self._waiting and len(self._waiting) == self._running:
            batch, self._waiting = self._waiting, []
            task = asyncio.create_task(self._send(batch))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, batch: list[tuple[tuple[Any, ...], asyncio.Future[Completion]]]) -> None:
        completions = await asyncio.gather(*(self._pool.generate(*request) for request, _ in batch))
        for (_, answer), completion in zip(batch, completions, strict=True):
            answer.set_result(completion)


class Scattered:
    """Sends the requests of a group to all engines in turn, as a balancer that knows no prefixes does."""

    def __init__(self, pool: EnginePool) -> None:
        self._pool, self._turn = pool, 0

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None = None
    ) -> Completion:
        """On the next engine."""
        self._turn += 1
        return await self._pool.generate(prompt_ids, sampling, self._turn, seed)
