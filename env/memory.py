"""The memory of one episode: entries with stable ids in a FAISS index, and the scratchpad.

Vectors are given by the caller (an embedder serves many episodes at once); they are L2-normalised float32, so the
inner product is the cosine similarity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import faiss
import numpy as np


@dataclass(frozen=True)
class Entry:
    """One memory entry as retrieved: `score` is its cosine similarity to the query."""

    entry_id: int
    content: str
    score: float = 0.0


@dataclass(frozen=True)
class LogItem:
    """One change of the memory, in order; enough to rebuild any past state."""

    kind: str  # create | update | delete | scratchpad | discard
    entry_id: int | None
    content: str


@dataclass
class MemoryStore:
    """Entries with ids 1, 2, 3, ... that are never reused, searched by similarity.

    `capacity` bounds the number of entries: what exceeds it is discarded and counted (the paper's appendix C).
    """

    dim: int
    capacity: int | None = None
    scratchpad: str = ""
    discarded: int = 0
    log: list[LogItem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._contents: dict[int, str] = {}
        self._next_id = 1
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(self.dim))

    def __len__(self) -> int:
        return len(self._contents)

    @property
    def entries(self) -> Mapping[int, str]:
        """Id -> content, in order of creation."""
        return dict(self._contents)

    def create(self, content: str, vector: np.ndarray) -> int | None:
        """Add an entry with its vector [dim]; returns its id, or None when the store is full (counted)."""
        row = self._row(vector)
        if self.capacity is not None and len(self) >= self.capacity:
            self.discarded += 1
            self.log.append(LogItem("discard", None, content))
            return None
        entry_id, self._next_id = self._next_id, self._next_id + 1
        self._add(entry_id, content, row)
        self.log.append(LogItem("create", entry_id, content))
        return entry_id

    def update(self, entry_id: int, content: str, vector: np.ndarray) -> bool:
        """Rewrite an entry; False when there is none with this id."""
        row = self._row(vector)
        if entry_id not in self._contents:
            return False
        self._index.remove_ids(np.array([entry_id], dtype=np.int64))
        self._add(entry_id, content, row)
        self.log.append(LogItem("update", entry_id, content))
        return True

    def delete(self, entry_id: int) -> bool:
        """Remove an entry; False when there is none with this id."""
        if entry_id not in self._contents:
            return False
        self._index.remove_ids(np.array([entry_id], dtype=np.int64))
        content = self._contents.pop(entry_id)
        self.log.append(LogItem("delete", entry_id, content))
        return True

    def write_scratchpad(self, content: str) -> None:
        """Replace the scratchpad."""
        self.scratchpad = content
        self.log.append(LogItem("scratchpad", None, content))

    def search(self, vector: np.ndarray, k: int) -> list[Entry]:
        """The k entries most similar to vector [dim], best first; equal scores in order of id."""
        if not self._contents or k < 1:
            return []
        scores, ids = self._index.search(self._row(vector), min(k, len(self)))
        pairs = zip(ids[0].tolist(), scores[0].tolist(), strict=True)
        found = [Entry(entry_id, self._contents[entry_id], score) for entry_id, score in pairs if entry_id >= 0]
        return sorted(found, key=lambda entry: (-entry.score, entry.entry_id))

    def content(self, entry_id: int) -> str | None:
        """The text of an entry; None when there is none with this id."""
        return self._contents.get(entry_id)

    def vector(self, entry_id: int) -> np.ndarray:
        """The vector [dim] of an entry that exists."""
        return self._index.reconstruct(entry_id)

    @property
    def next_id(self) -> int:
        """The id of the next entry."""
        return self._next_id

    def snapshot(self) -> dict[str, Any]:
        """The whole state; `restore` brings it back. `vectors` is float32 [entries, dim] in the order of `entries`."""
        ids = list(self._contents)
        vectors = [self.vector(entry_id) for entry_id in ids]
        return {
            "entries": dict(self._contents),
            "vectors": np.stack(vectors) if ids else np.zeros((0, self.dim), np.float32),
            "next_id": self._next_id,
            "scratchpad": self.scratchpad,
            "discarded": self.discarded,
            "log": list(self.log),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the state of `snapshot`, replacing everything held now."""
        vectors = np.asarray(state["vectors"], np.float32)
        if vectors.shape != (len(state["entries"]), self.dim):
            raise ValueError(f"vectors: shape {vectors.shape}, expected {(len(state['entries']), self.dim)}")
        self._contents = dict(state["entries"])
        self._index.reset()
        if self._contents:
            self._index.add_with_ids(vectors, np.fromiter(self._contents, np.int64))
        self._next_id, self.scratchpad = state["next_id"], state["scratchpad"]
        self.discarded, self.log = state["discarded"], list(state["log"])

    def _add(self, entry_id: int, content: str, row: np.ndarray) -> None:
        self._index.add_with_ids(row, np.array([entry_id], dtype=np.int64))
        self._contents[entry_id] = content

    def _row(self, vector: np.ndarray) -> np.ndarray:
        row = np.ascontiguousarray(vector, dtype=np.float32).reshape(1, -1)
        if row.shape[1] != self.dim:
            raise ValueError(f"vector: {row.shape[1]} dimensions, this store has {self.dim}")
        return row
