"""Retrieval-augmented generation: documents stored whole, a few retrieved per question; nothing is summarised."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import bm25s

from env.memory import Entry
from evaluation.method import Ask, Method, Parts, Recalled

RANK_OFFSET = 60  # of reciprocal rank fusion (Cormack, Clarke and Buettcher 2009)


class Rag(Method):
    """Dense retrieval: `documents` of them nearest to the question by embedding."""

    def __init__(self, parts: Parts, documents: int = 6) -> None:
        super().__init__(parts)
        self.documents = documents

    async def read(self, chunks: Sequence[str]) -> AsyncGenerator[Ask, str]:
        """Store the task's units: documents, turns of a conversation, sentences."""
        await self.store(self.task.units)
        return
        yield

    async def recall(self, question: str) -> Recalled:
        """The nearest documents."""
        return Recalled(await self.search(question, self.documents))


class BM25Rag(Rag):
    """Lexical retrieval with BM25 (the library bm25s, its default k1 = 1.5, b = 0.75, Lucene's variant)."""

    async def read(self, chunks: Sequence[str]) -> AsyncGenerator[Ask, str]:
        """Store and index the task's units."""
        await self.store(self.task.units)
        self.index = bm25s.BM25()
        self.index.index(_words(list(self.memory.entries.values())), show_progress=False)
        return
        yield

    async def recall(self, question: str) -> Recalled:
        """The documents with the best BM25 scores."""
        self.counts["retrievals"] += 1
        return Recalled(self.lexical(question)[: self.documents])

    def lexical(self, question: str) -> list[Entry]:
        """Entries that share a word with the question, best first; equal scores in order of id."""
        scores = self.index.get_scores(_words([question])[0])
        scored = zip(self.memory.entries.items(), scores, strict=True)
        found = [Entry(entry_id, text, float(score)) for (entry_id, text), score in scored if score > 0]
        return sorted(found, key=lambda entry: (-entry.score, entry.entry_id))


class HybridRag(BM25Rag):
    """Both rankings merged by reciprocal rank: sum over rankings of 1 / (60 + rank)."""

    async def recall(self, question: str) -> Recalled:
        """The documents with the best merged rank."""
        rankings = [await self.search(question, len(self.memory)), self.lexical(question)]
        merged: dict[int, float] = {}
        for ranking in rankings:
            for rank, entry in enumerate(ranking, start=1):
                merged[entry.entry_id] = merged.get(entry.entry_id, 0.0) + 1 / (RANK_OFFSET + rank)
        best = sorted(merged, key=lambda entry_id: (-merged[entry_id], entry_id))[: self.documents]
        contents = self.memory.entries
        return Recalled([Entry(entry_id, contents[entry_id], merged[entry_id]) for entry_id in best])


def _words(texts: list[str]) -> list[list[str]]:
    return bm25s.tokenize(texts, stopwords="en", return_ids=False, show_progress=False)
