"""Memory operations: one FAISS index per episode against one shared index behind LangChain's wrapper.

The baseline is langchain-community's FAISS store as the code released with the paper uses it: all trajectories of a
batch in one index, found again by a metadata filter over `fetch_k` hits; an entry to be changed is found by comparing
texts, deleted and added again. It is measured at the size of one step: 64 trajectories with 50 entries each.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import faiss
import numpy as np
import psutil

from benchmarks.results import Ratio, keep
from env.memory import MemoryStore

DIM, TRAJECTORIES, ENTRIES, K, FETCH = 384, 64, 50, 6, 40_000
SIZES = (10, 100, 1_000, 10_000, 100_000)
SOURCE = "langchain-community 0.4.2, FAISS vector store, used as in the paper's released code"


def unit(count: int, seed: int = 0) -> np.ndarray:
    """Random unit vectors, float32 [count, DIM]."""
    vectors = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def text(trajectory: int, entry: int) -> str:
    """An entry of about a sentence."""
    return f"Trajectory {trajectory}, fact {entry}: the company moved its seat to another city in that year."


def filled(entries: int) -> MemoryStore:
    """A store with so many entries."""
    store = MemoryStore(DIM)
    for number, vector in enumerate(unit(entries)):
        store.create(text(0, number), vector)
    return store


def microseconds(entries: int, rounds: int) -> dict[str, float]:
    """Median cost of each operation in a store of this size, done ``rounds`` times."""
    store, vectors, found = filled(entries), unit(rounds, 1), {}
    ids = [1 + (7 * number) % entries for number in range(rounds)]
    calls = {
        "read": lambda i: store.search(vectors[i], K),
        "update": lambda i: store.update(ids[i], "changed", vectors[i]),
        "create": lambda i: store.create("new", vectors[i]),
        "delete": lambda i: store.delete(entries + 1 + i),  # what was just created: the size stays
    }
    for name, call in calls.items():
        times = []
        for i in range(rounds):
            started = time.perf_counter()
            call(i)
            times.append(time.perf_counter() - started)
        found[name] = statistics.median(times) * 1e6  # a busy machine interrupts some of them
    return found


def bytes_per_entry(entries: int = 100_000) -> float:
    """Growth of this process's resident memory per entry: vector, text, log and the maps."""
    process = psutil.Process()
    before = process.memory_info().rss
    store = filled(entries)
    return (process.memory_info().rss - before) / len(store)


class SharedStore:
    """The baseline's memory of all trajectories."""

    def __init__(self) -> None:
        from langchain_community.docstore.in_memory import InMemoryDocstore
        from langchain_community.vectorstores import FAISS
        from langchain_core.embeddings import FakeEmbeddings

        self.store: Any = FAISS(
            FakeEmbeddings(size=DIM), faiss.IndexFlatL2(DIM), InMemoryDocstore(), {}, normalize_L2=False
        )

    def create(self, trajectory: int, content: str, vector: list[float]) -> None:
        """Add one entry."""
        self.store.add_embeddings([(content, vector)], metadatas=[{"trajectory": trajectory}])

    def search(self, trajectory: int, vector: list[float]) -> list[Any]:
        """The entries of one trajectory that are nearest."""
        return self.store.similarity_search_with_score_by_vector(
            vector, k=K, filter={"trajectory": trajectory}, fetch_k=FETCH
        )

    def delete(self, trajectory: int, content: str) -> None:
        """Remove the entry with this text."""
        documents = self.store.docstore._dict.items()
        wanted = {"trajectory": trajectory}
        key = next(key for key, one in documents if one.page_content == content and one.metadata == wanted)
        self.store.delete([key])


def step_of_ours(vectors: np.ndarray, queries: np.ndarray) -> float:
    """Seconds of one step: each trajectory reads, creates, updates and deletes once."""
    stores = [MemoryStore(DIM) for _ in range(TRAJECTORIES)]
    for trajectory, store in enumerate(stores):
        for entry in range(ENTRIES):
            store.create(text(trajectory, entry), vectors[trajectory * ENTRIES + entry])
    started = time.perf_counter()
    for trajectory, store in enumerate(stores):
        query = queries[trajectory]
        store.search(query, K)
        store.create("new", query)
        store.update(7, "changed", query)
        store.delete(9)
    return time.perf_counter() - started


def step_of_shared(vectors: np.ndarray, queries: np.ndarray) -> float:
    """The same with the baseline."""
    shared = SharedStore()
    owners = [divmod(number, ENTRIES) for number in range(TRAJECTORIES * ENTRIES)]
    pairs = [(text(*owner), vector) for owner, vector in zip(owners, vectors.tolist(), strict=True)]
    shared.store.add_embeddings(pairs, metadatas=[{"trajectory": trajectory} for trajectory, _ in owners])
    started = time.perf_counter()
    for trajectory in range(TRAJECTORIES):
        query = queries[trajectory].tolist()
        shared.search(trajectory, query)
        shared.create(trajectory, "new", query)
        shared.delete(trajectory, text(trajectory, 6))
        shared.create(trajectory, "changed", query)
        shared.delete(trajectory, text(trajectory, 8))
    return time.perf_counter() - started


def main() -> None:
    """Measure and keep."""
    started = time.monotonic()
    faiss.omp_set_num_threads(1)
    size = bytes_per_entry()
    costs = {entries: microseconds(entries, 200 if entries <= 10_000 else 30) for entries in SIZES}
    vectors, queries = unit(TRAJECTORIES * ENTRIES), unit(TRAJECTORIES, 1)
    pairs = [(step_of_ours(vectors, queries), step_of_shared(vectors, queries)) for _ in range(3)]
    ours, baseline = (min(side) for side in zip(*pairs, strict=True))
    ratios = [
        Ratio(
            "memory: a step of 64 trajectories x 50 entries", f"{ours * 1e3:.1f} ms", f"{baseline * 1e3:.0f} ms",
            baseline / ours, 100, SOURCE, "each trajectory reads, creates, updates and deletes once",
        ),
        *(
            Ratio(
                f"memory: {name} at 10,000 entries against 100", f"{costs[10_000][name]:.1f} us",
                f"{costs[100][name]:.1f} us", costs[100][name] / costs[10_000][name], 0.25, "itself",
                "1: independent of the entries; 0.01: linear in them",
            )
            for name in ("update", "delete")
        ),
        Ratio(
            "memory: bytes per entry, 384 dimensions", f"{size:.0f} B", f"{4 * DIM} B", 4 * DIM / size, None,
            "the float32 vector alone", "vector, text of 90 characters, log, maps",
        ),
    ]  # fmt: skip
    keep("memory", ratios, started, microseconds=costs)


if __name__ == "__main__":
    main()
