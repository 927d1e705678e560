"""EpisodeHost: many episodes at once in one background asyncio loop, each at its own pace."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rollout.config import SamplingConfig
from rollout.episode import Environment, Tokenizer, run_episode
from rollout.types import Completion, Generator, Group, GroupRequest, Trajectory


@dataclass
class HostStatus:
    """A report: groups finished since the last one, ids of those that still run, turns since the start."""

    groups: list[Group] = field(default_factory=list)
    pending: set[int] = field(default_factory=set)
    turns: int = 0


class _CountedGenerator:
    """Counts completions, so that a long episode shows progress before its group ends."""

    def __init__(self, generator: Generator) -> None:
        self._generate, self.count = generator.generate, 0

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None = None
    ) -> Completion:
        completion = await self._generate(prompt_ids, sampling, affinity, seed)
        self.count += 1
        return completion


class EpisodeHost:
    """Runs groups of episodes in its own thread; all public methods may be called from any other thread.

    Args:
        make_env: a fresh environment for one episode of a request.
        generator: shared by all episodes.
        tokenizer: of the policy.
        concurrency: episodes that run at the same time; further ones wait for a place.
    """

    def __init__(
        self,
        make_env: Callable[[GroupRequest], Environment],
        generator: Generator,
        tokenizer: Tokenizer,
        concurrency: int,
    ) -> None:
        self._make_env, self._tokenizer = make_env, tokenizer
        self._generator = _CountedGenerator(generator)
        self._places = asyncio.Semaphore(concurrency)
        self._tasks: dict[int, asyncio.Task[None]] = {}  # used in the loop's thread only
        self._pending: set[int] = set()
        self._finished: list[Group] = []
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="episodes", daemon=True)
        self._thread.start()

    @property
    def turns(self) -> int:
        """Turns generated since the start."""
        return self._generator.count

    def submit(self, requests: Sequence[GroupRequest]) -> None:
        """Start groups and return at once. A group that is running already goes on."""
        with self._changed:
            fresh = [request for request in requests if request.group_id not in self._pending]
            self._pending |= {request.group_id for request in fresh}
        self._loop.call_soon_threadsafe(self._start, fresh)

    def collect(self, wait_s: float = 0.0) -> HostStatus:
        """Hand over the finished groups, after waiting up to ``wait_s`` seconds for the first one."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished or not self._pending, wait_s)
            groups, self._finished = self._finished, []
            return HostStatus(groups, set(self._pending), self._generator.count)

    def cancel(self) -> None:
        """Give up everything that runs; finished groups that no one collected are forgotten too."""
        with self._changed:
            self._pending, self._finished = set(), []
        self._loop.call_soon_threadsafe(self._cancel_tasks)

    def close(self) -> None:
        """Cancel what runs and end the thread."""
        self.cancel()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _start(self, requests: Sequence[GroupRequest]) -> None:
        for request in requests:
            self._tasks[request.group_id] = self._loop.create_task(self._run_group(request))

    def _cancel_tasks(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _run_group(self, request: GroupRequest) -> None:
        episodes = [self._run_episode(request, index) for index in range(request.group_size)]
        group = Group(request.group_id, request.task.task_id, list(await asyncio.gather(*episodes)))
        del self._tasks[request.group_id]
        with self._changed:
            self._pending.discard(request.group_id)
            self._finished.append(group)
            self._changed.notify_all()

    async def _run_episode(self, request: GroupRequest, index: int) -> Trajectory:
        async with self._places:
            return await run_episode(self._make_env, self._generator, self._tokenizer, request, index)
