"""The memory of one episode: entries with stable ids in a FAISS index, and the scratchpad.

Vectors are given by the caller (an embedder serves many episodes at once); they are L2-normalised float32, so the
inner product is the cosine similarity.

An Update overwrites its row of the index in place, a Delete moves the last row into the gap: neither looks at the
other entries, as FAISS's own `remove_ids` does.
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
        self._index = faiss.IndexFlatIP(self.dim)
        self._ids: list[int] = []  # of the entry in each row of the index
        self._rows: dict[int, int] = {}  # the reverse

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
        self._index.add(row)
        self._rows[entry_id] = len(self._ids)
        self._ids.append(entry_id)
        self._contents[entry_id] = content
        self.log.append(LogItem("create", entry_id, content))
        return entry_id

    def update(self, entry_id: int, content: str, vector: np.ndarray) -> bool:
        """Rewrite an entry; False when there is none with this id."""
        row = self._row(vector)
        if entry_id not in self._contents:
            return False
        self._vectors()[self._rows[entry_id]] = row
        self._contents[entry_id] = content
        self.log.append(LogItem("update", entry_id, content))
        return True

    def delete(self, entry_id: int) -> bool:
        """Remove an entry; False when there is none with this id."""
        if entry_id not in self._contents:
            return False
        self._drop_row(self._rows.pop(entry_id))
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
        scores, rows = self._index.search(self._row(vector), min(k, len(self)))
        pairs = [(self._ids[row], score) for row, score in zip(rows[0], scores[0].tolist(), strict=True) if row >= 0]
        found = [Entry(entry_id, self._contents[entry_id], score) for entry_id, score in pairs]
        return sorted(found, key=lambda entry: (-entry.score, entry.entry_id))

    def content(self, entry_id: int) -> str | None:
        """The text of an entry; None when there is none with this id."""
        return self._contents.get(entry_id)

    def vector(self, entry_id: int) -> np.ndarray:
        """The vector [dim] of an entry that exists."""
        return self._index.reconstruct(self._rows[entry_id])

    @property
    def next_id(self) -> int:
        """The id of the next entry."""
        return self._next_id

    def snapshot(self) -> dict[str, Any]:
        """The whole state; `restore` brings it back. `vectors` is float32 [entries, dim] in the order of `entries`."""
        return {
            "entries": dict(self._contents),
            "vectors": self._vectors()[[self._rows[entry_id] for entry_id in self._contents]],
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
        self._ids = list(self._contents)
        self._rows = {entry_id: row for row, entry_id in enumerate(self._ids)}
        self._index.reset()
        self._index.add(np.ascontiguousarray(vectors))
        self._next_id, self.scratchpad = state["next_id"], state["scratchpad"]
        self.discarded, self.log = state["discarded"], list(state["log"])

    def _vectors(self) -> np.ndarray:
        """The index's own vectors, float32 [entries, dim]; valid until an entry is added or removed."""
        flat = faiss.rev_swig_ptr(self._index.get_xb(), len(self._ids) * self.dim)
        return flat.reshape(len(self._ids), self.dim)

    def _drop_row(self, row: int) -> None:
        vectors, last = self._vectors(), len(self._ids) - 1
        moved = self._ids.pop()
        if row != last:
            vectors[row] = vectors[last]
            self._ids[row], self._rows[moved] = moved, row
        self._index.codes.resize(last * self._index.code_size)
        self._index.ntotal = last

    def _row(self, vector: np.ndarray) -> np.ndarray:
        row = np.ascontiguousarray(vector, dtype=np.float32).reshape(1, -1)
        if row.shape[1] != self.dim:
            raise ValueError(f"vector: {row.shape[1]} dimensions, this store has {self.dim}")
        return row
