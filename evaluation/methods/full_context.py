"""Full context: as much of the text as the window takes; the rest is cut from its end and counted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from env.memory import Entry
from evaluation.method import Ask, Method, Recalled


class FullContext(Method):
    """No memory at all: the chunks, in reading order, stand before every question."""

    async def read(self, chunks: Sequence[str]) -> AsyncGenerator[Ask, str]:
        """Nothing to do while reading."""
        self.text = [Entry(number, chunk) for number, chunk in enumerate(chunks, start=1)]
        for entry in self.text:
            self.note("create", entry.content, entry.entry_id)
        return
        yield

    async def recall(self, question: str) -> Recalled:
        """The whole text."""
        return Recalled(self.text)
