"""Sessions that an agent replica keeps in memory: a cache of the database, bounded, and never trusted blindly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from cachetools import LRUCache

from cluster.serving.config import ServingConfig
from cluster.serving.repository import Repository
from env.config import EnvConfig
from env.memory import MemoryStore

OUTDATED = -1  # as a version: the database has moved on


@dataclass
class Live:
    """A session's state at `version`."""

    version: int
    store: MemoryStore
    query: str | None
    env: EnvConfig
    focus: tuple[str, ...]


class LiveSessions:
    """At most `config.live_sessions` of them; the least recently used are forgotten (the database has them)."""

    def __init__(self, config: ServingConfig, dim: int) -> None:
        self._config, self._dim = config, dim
        self._kept: LRUCache[str, Live] = LRUCache(config.live_sessions)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._kept)

    @asynccontextmanager
    async def hold(self, repository: Repository, session_id: str) -> AsyncIterator[Live]:
        """The session as the database has it, for one writer of this replica at a time, first come first served.

        It is kept for the next one only if the block ends well: what was changed but not committed is forgotten.
        Raises NotFound.
        """
        lock = self._locks.setdefault(session_id, asyncio.Lock())
        async with lock:
            live = self._kept.pop(session_id, None)
            if live is None or live.version != await repository.version(session_id):
                live = await self._load(repository, session_id)
            yield live
            self._kept[session_id] = live

    def forget(self, session_id: str) -> None:
        """Drop it from memory."""
        self._kept.pop(session_id, None)

    async def _load(self, repository: Repository, session_id: str) -> Live:
        session, state = await repository.load(session_id, self._dim)
        env = session_env(self._config.env, session.options)
        limit = self._config.limits.entries
        store = MemoryStore(self._dim, min(env.capacity or limit, limit))
        await asyncio.to_thread(store.restore, state)
        return Live(session.version, store, session.query, env, tuple(session.options["focus"]))


def session_env(env: EnvConfig, options: Mapping[str, Any]) -> EnvConfig:
    """The environment of training with a session's own options."""
    names = ("top_k", "capacity", "operations", "prompt")
    return env.model_copy(update={name: options[name] for name in names if options.get(name) is not None})
