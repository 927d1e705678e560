"""Micro-batching: who shares a call, what is remembered, where errors and cancellations go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from env.config import HashingEmbedderConfig
from env.embedders import HashingEmbedder, Kind
from env.embedding import BatchedEmbedder
from env.errors import EmbeddingError


class Recorder(HashingEmbedder):
    """The hashing embedder; keeps its batches, fails on the text "bad", waits for `gate` when it is set."""

    def __init__(self) -> None:
        super().__init__(HashingEmbedderConfig(dim=64))
        self.batches: list[tuple[Kind, list[str]]] = []
        self.gate: threading.Event | None = None

    def embed(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
        self.batches.append((kind, list(texts)))
        if self.gate is not None:
            assert self.gate.wait(10)
        if "bad" in texts:
            raise EmbeddingError("out of memory")
        return super().embed(texts, kind)


async def test_concurrent_requests_share_one_batch_and_keep_their_order() -> None:
    plain = Recorder()
    embedder = BatchedEmbedder(recorder := Recorder(), max_wait_ms=20)
    requests = [[f"text {i}", "shared", f"more {i}"] for i in range(50)]
    results = await asyncio.gather(*(embedder.embed(texts, "passage") for texts in requests))
    assert len(recorder.batches) == 1
    assert len(recorder.batches[0][1]) == 101  # 100 of their own and the shared one, once
    for texts, vectors in zip(requests, results, strict=True):
        np.testing.assert_array_equal(vectors, plain.embed(texts, "passage"))
    counts = embedder.counts
    assert (counts.requests, counts.texts, counts.hits, counts.batches) == (50, 150, 49, 1)


async def test_what_was_seen_is_not_embedded_again_but_kinds_are_apart() -> None:
    embedder = BatchedEmbedder(recorder := Recorder(), max_wait_ms=0)
    first = await embedder.embed(["a b", "c"], "passage")
    first[:] = 7  # the caller owns the result: the cache must not feel it
    again = await embedder.embed(["c", "a b", "c"], "passage")
    np.testing.assert_array_equal(again, Recorder().embed(["c", "a b", "c"], "passage"))
    await embedder.embed(["c"], "query")
    assert recorder.batches == [("passage", ["a b", "c"]), ("query", ["c"])]


async def test_least_recently_used_texts_are_forgotten_first() -> None:
    embedder = BatchedEmbedder(recorder := Recorder(), max_wait_ms=0, cache_size=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        await embedder.embed([text], "passage")
    assert [texts for _, texts in recorder.batches] == [["a"], ["b"], ["c"], ["b"]]


async def test_batches_never_exceed_the_maximum() -> None:
    embedder = BatchedEmbedder(recorder := Recorder(), max_batch=8, max_wait_ms=5)
    texts = [f"t{i}" for i in range(20)]
    vectors = await embedder.embed(texts, "passage")
    np.testing.assert_array_equal(vectors, Recorder().embed(texts, "passage"))
    assert [len(batch) for _, batch in recorder.batches] == [8, 8, 4]


async def test_a_batch_goes_on_filling_while_the_embedder_is_busy() -> None:
    recorder = Recorder()
    recorder.gate = threading.Event()
    embedder = BatchedEmbedder(recorder, max_wait_ms=0)
    first = asyncio.create_task(embedder.embed(["first"], "passage"))
    while not recorder.batches:
        await asyncio.sleep(0.001)
    later = [asyncio.create_task(embedder.embed([f"later {i}"], "passage")) for i in range(5)]
    await asyncio.sleep(0.02)  # far beyond max_wait: they wait for the embedder, together
    recorder.gate.set()
    await asyncio.gather(first, *later)
    assert [len(texts) for _, texts in recorder.batches] == [1, 5]


async def test_an_error_reaches_every_waiter_and_is_not_remembered() -> None:
    recorder = Recorder()
    embedder = BatchedEmbedder(recorder, max_wait_ms=20)
    texts = (["good"], ["bad"], ["good", "other"])
    results = await asyncio.gather(*(embedder.embed(t, "passage") for t in texts), return_exceptions=True)
    assert [str(result) for result in results] == ["out of memory"] * 3
    assert all(isinstance(result, EmbeddingError) for result in results)
    assert (await embedder.embed(["good"], "passage")).shape == (1, 64)


async def test_a_cancelled_waiter_does_not_take_the_others_along() -> None:
    embedder = BatchedEmbedder(Recorder(), max_wait_ms=20)
    leaving = asyncio.create_task(embedder.embed(["shared"], "passage"))
    staying = asyncio.create_task(embedder.embed(["shared"], "passage"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).shape == (1, 64)
    assert leaving.cancelled()


async def test_unusable_vectors_are_refused() -> None:
    class Broken(Recorder):
        def embed(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
            return np.full((len(texts), 64 if "nan" in texts else 3), np.nan, dtype=np.float32)

    embedder = BatchedEmbedder(Broken())
    with pytest.raises(EmbeddingError, match=r"shape \(1, 3\), expected \(1, 64\)"):
        await embedder.embed(["x"], "passage")
    with pytest.raises(EmbeddingError, match="not finite"):
        await embedder.embed(["nan"], "passage")


async def test_no_texts_give_no_rows() -> None:
    assert (await BatchedEmbedder(Recorder()).embed([], "query")).shape == (0, 64)
