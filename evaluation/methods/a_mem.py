"""A-Mem (arXiv 2502.12110): notes with keywords, tags and context, linked to each other, that evolve.

For every note the model describes it, then says which of its nearest notes to link and how they change.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from env.memory import Entry
from evaluation.json_reply import read_json, strings
from evaluation.method import Ask, Method, Parts, Recalled

DESCRIBE = """\
Describe the text above as JSON with these keys: "keywords" (a list of names and terms, the most important first), \
"context" (one sentence that sums it up), "tags" (a list of broad categories). Write nothing but the JSON."""
EVOLVE = """\
The first text above is a new note; the numbered ones are the notes nearest to it. Decide how the memory evolves. \
Answer as JSON with these keys: "links" (numbers of the notes that belong together with the new one), "tags" (a \
list of tags for the new note), "neighbours" (a list of {{"number": N, "context": "...", "tags": [...]}} for notes \
whose description should change in the light of the new one). Write nothing but the JSON."""


@dataclass
class Note:
    """A note: the text and what the model says about it."""

    content: str
    keywords: list[str] = field(default_factory=list)
    context: str = ""
    tags: list[str] = field(default_factory=list)
    links: list[int] = field(default_factory=list)

    def text(self) -> str:
        """What is embedded and shown."""
        extra = [("context", self.context), ("keywords", ", ".join(self.keywords)), ("tags", ", ".join(self.tags))]
        return "\n".join([self.content, *(f"{name}: {value}" for name, value in extra if value)])


class AMem(Method):
    """`by`: a note for every chunk, or for every unit (document) as the paper's call counts suggest."""

    def __init__(self, parts: Parts, by: Literal["chunk", "unit"] = "chunk", neighbours: int = 5) -> None:
        super().__init__(parts)
        self.by, self.neighbours = by, neighbours

    async def read(self, chunks: Sequence[str]) -> AsyncGenerator[Ask, str]:
        """Two calls a note (one where there is no other note yet)."""
        self.notes: dict[int, Note] = {}
        for position, content in enumerate(chunks if self.by == "chunk" else self.task.units):
            said = read_json((yield Ask(content, DESCRIBE, position)))
            note = Note(content, strings(said, "keywords"), " ".join(strings(said, "context")), strings(said, "tags"))
            near = await self.search(note.text(), self.neighbours)
            said = read_json((yield Ask(note.text(), EVOLVE, position, near))) if near else {}
            shown = {entry.entry_id for entry in near}
            note.links = [number for number in map(_number, said.get("links") or []) if number in shown]
            note.tags = strings(said, "tags") or note.tags
            if (entry_id := (await self.store([note.text()]))[0]) is not None:
                self.notes[entry_id] = note
            for change in [c for c in said.get("neighbours") or [] if isinstance(c, dict)]:
                if (number := _number(change.get("number"))) in shown:
                    await self._evolve(number, change)

    async def _evolve(self, number: int, change: dict[str, object]) -> None:
        note = self.notes[number]
        note.context = " ".join(strings(change, "context")) or note.context
        note.tags = strings(change, "tags") or note.tags
        await self.rewrite(number, note.text())

    async def recall(self, question: str) -> Recalled:
        """The nearest notes, then those they are linked with."""
        found = [entry.entry_id for entry in await self.search(question, self.config.top_k)]
        linked = [link for entry_id in found for link in self.notes[entry_id].links]
        return Recalled([Entry(i, self.notes[i].text()) for i in dict.fromkeys([*found, *linked])])


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | str) and str(value).isdigit() else -1
