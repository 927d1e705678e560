"""Micro-batched, cached embedding: what the concurrent episodes of one process share.

    episode --embed(texts)--+                 +-- cache hit --> vector
    episode --embed(texts)--+--> per text ----+-- in flight --> wait for its batch
    episode --embed(texts)--+                 +-- new       --> open batch of its kind --> Embedder
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from cachetools import LRUCache

from env.embedders import Embedder, Kind, make_embedder
from env.errors import EmbeddingError

__all__ = ["BatchedEmbedder", "Embedder", "Kind", "make_embedder"]


@dataclass
class EmbeddingCounts:
    """What a BatchedEmbedder was asked and how much work that was."""

    requests: int = 0  # calls of embed
    texts: int = 0  # texts in them
    hits: int = 0  # texts that were cached or already in flight
    batches: int = 0  # calls of the embedder


@dataclass
class _Batch:
    """Texts of one kind that go to the embedder together; its task ends with their vectors or the error."""

    kind: Kind
    rows: dict[str, int] = field(default_factory=dict)
    full: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[np.ndarray] | None = None


class BatchedEmbedder:
    """Embeds for many coroutines of one event loop, at most one call of the embedder at a time.

    A batch leaves when it holds `max_batch` texts or `max_wait_ms` after its first one; while the embedder is
    busy it goes on filling. A text that was seen before (LRU of `cache_size` vectors) or is in flight is not
    embedded again. When a batch fails every waiter gets its error, nothing is cached, and the next request
    tries again.
    """

    def __init__(
        self, embedder: Embedder, max_batch: int = 256, max_wait_ms: float = 2.0, cache_size: int = 4_096
    ):
        self.dim = embedder.dim
        self.counts = EmbeddingCounts()
        self._embedder = embedder
        self._max_batch = max_batch
        self._max_wait_s = max_wait_ms / 1000
        self._cache: LRUCache[tuple[Kind, str], np.ndarray] = LRUCache(cache_size)
        self._open: dict[Kind, _Batch] = {}
        self._in_flight: dict[tuple[Kind, str], _Batch] = {}
        self._turn = asyncio.Lock()

    async def embed(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
        """Float32 [len(texts), dim], rows of unit length, in the order of `texts`; the caller owns the array.

        Raises EmbeddingError (or what else the embedder raised)."""
        self.counts.requests += 1
        self.counts.texts += len(texts)
        out = np.empty((len(texts), self.dim), dtype=np.float32)
        waiting: list[tuple[int, str, _Batch]] = []
        for position, text in enumerate(texts):
            vector = self._cache.get((kind, text))
            if vector is None:
                waiting.append((position, text, self._place(kind, text)))
            else:
                self.counts.hits += 1
                out[position] = vector
        for position, text, batch in waiting:
            assert batch.task is not None
            vectors = await asyncio.shield(batch.task)  # one episode's cancellation must not reach the others
            out[position] = vectors[batch.rows[text]]
        return out

    def _place(self, kind: Kind, text: str) -> _Batch:
        """The batch that will hold the text's vector: one it is in already, or the open one of its kind."""
        if batch := self._in_flight.get((kind, text)):
            self.counts.hits += 1
            return batch
        batch = self._open.get(kind)
        if batch is None:
            batch = self._open[kind] = _Batch(kind)
            batch.task = asyncio.create_task(self._run(batch))
        batch.rows[text] = len(batch.rows)
        self._in_flight[kind, text] = batch
        if len(batch.rows) >= self._max_batch:
            batch.full.set()
            self._close(batch)
        return batch

    async def _run(self, batch: _Batch) -> np.ndarray:
        """Wait for company and for the embedder, embed, cache."""
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(batch.full.wait(), self._max_wait_s)
            async with self._turn:
                self._close(batch)
                self.counts.batches += 1
                vectors = await asyncio.to_thread(self._embedder.embed, list(batch.rows), batch.kind)
            self._check(vectors, len(batch.rows))
            for text, row in batch.rows.items():
                self._cache[batch.kind, text] = vectors[row].copy()  # a view would keep the whole batch alive
            return vectors
        finally:
            self._close(batch)  # again, for a batch that was cancelled while it waited
            for text in batch.rows:
                del self._in_flight[batch.kind, text]

    def _close(self, batch: _Batch) -> None:
        if self._open.get(batch.kind) is batch:
            del self._open[batch.kind]

    def _check(self, vectors: np.ndarray, count: int) -> None:
        if vectors.shape != (count, self.dim):
            raise EmbeddingError(f"the embedder returned shape {vectors.shape}, expected {(count, self.dim)}")
        if not np.isfinite(vectors).all():
            raise EmbeddingError("the embedder returned a vector with a value that is not finite")
