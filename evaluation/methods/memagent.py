"""MemAgent (arXiv 2507.02259): one summary, overwritten at every chunk; the answer comes from it alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from env.chunking import cut
from evaluation.method import Ask, Method, Recalled

INSTRUCTIONS = """\
Questions to be answered later:
{questions}

Your notes so far:
{notes}

Write the notes anew. Keep everything in them that helps to answer the questions, and add what the text above \
contributes. Whatever you leave out is lost. Write nothing but the notes."""


class MemAgent(Method):
    """The whole output becomes the summary (cut at `env.scratchpad_tokens`)."""

    async def read(self, chunks: Sequence[str]) -> AsyncGenerator[Ask, str]:
        """One call a chunk."""
        questions = "\n".join(question.text for question in self.task.questions)
        self.notes = ""
        for position, chunk in enumerate(chunks):
            prompt = INSTRUCTIONS.format(questions=questions, notes=self.notes or "(none)")
            reply = yield Ask(chunk, prompt, position, scratchpad=self.notes)
            self.notes = cut(reply.strip(), self.parts.tokenizer, self.config.scratchpad_tokens)[0]
            self.note("scratchpad", self.notes)

    async def recall(self, question: str) -> Recalled:
        """The summary, whatever the question."""
        return Recalled(scratchpad=self.notes)
