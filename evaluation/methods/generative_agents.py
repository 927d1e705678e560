"""Generative Agents (arXiv 2304.03442): a stream scored by recency, importance and relevance; reflections.

One chunk is one unit of time. A reflection is due when enough importance was taken in since the last one.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from typing import Literal

from env.memory import Entry
from evaluation.method import Ask, Method, Parts, Recalled

RATE = """\
How important for later is the text above, from 1 (everyday matters) to 10 (decisive facts)? Write one number."""
WONDER = """\
Which 3 questions that the statements above can answer are the most salient? Write one question a line."""
INFER = """\
What 5 insights follow from the statements above about this question: {question}
Write one insight a line."""


class GenerativeAgents(Method):
    """The paper's constants: decay 0.995 per unit of time, a reflection per 150 of importance, the latest 100."""

    def __init__(
        self, parts: Parts, decay: float = 0.995, threshold: float = 150.0, by: Literal["chunk", "unit"] = "chunk"
    ) -> None:
        super().__init__(parts)
        self.decay, self.threshold, self.by = decay, threshold, by

    async def read(self, chunks: Sequence[str]) -> AsyncGenerator[Ask, str]:
        """One call a chunk, and 1 + 3 at every reflection."""
        self.importance: dict[int, float] = {}
        self.used: dict[int, int] = {}  # when an entry was stored or last retrieved
        self.now, taken = 0, 0.0
        for position, text in enumerate(chunks if self.by == "chunk" else self.task.units):
            self.now += 1
            rating = re.search(r"\d+", (yield Ask(text, RATE, position)))
            weight = min(max(float(rating[0]), 1.0), 10.0) if rating else 5.0
            await self._keep([text], weight)
            taken += weight
            if taken < self.threshold:
                continue
            taken = 0.0
            latest = [Entry(*item) for item in list(self.memory.entries.items())[-100:]]
            for question in _lines((yield Ask("Statements:", WONDER, position, latest)))[:3]:
                found = await self._recall(question)
                insights = yield Ask("Statements:", INFER.format(question=question), position, found)
                await self._keep(_lines(insights)[:5], 5.0)

    async def recall(self, question: str) -> Recalled:
        """The `env.top_k` entries with the best sum of the three scores."""
        return Recalled(await self._recall(question))

    async def _keep(self, contents: Sequence[str], weight: float) -> None:
        for entry_id in await self.store(contents):
            if entry_id is not None:
                self.importance[entry_id], self.used[entry_id] = weight, self.now

    async def _recall(self, query: str) -> list[Entry]:
        every = await self.search(query, len(self.memory))
        recency = _scaled([self.decay ** (self.now - self.used[entry.entry_id]) for entry in every])
        importance = _scaled([self.importance[entry.entry_id] for entry in every])
        relevance = _scaled([entry.score for entry in every])
        total = [sum(scores) for scores in zip(recency, importance, relevance, strict=True)]
        order = sorted(range(len(every)), key=lambda i: (-total[i], every[i].entry_id))[: self.config.top_k]
        self.used |= {every[i].entry_id: self.now for i in order}
        return [every[i] for i in order]


def _scaled(values: Sequence[float]) -> list[float]:
    """To [0, 1], the smallest to 0 and the largest to 1; all equal: 0."""
    low, span = min(values, default=0.0), max(values, default=0.0) - min(values, default=0.0)
    return [(value - low) / span if span else 0.0 for value in values]


def _lines(text: str) -> list[str]:
    return [line.strip(" -*\t") for line in text.splitlines() if line.strip(" -*\t0123456789.")]
