"""Mem0 (arXiv 2504.19413) through the real package mem0ai: facts are extracted, then added, updated or deleted.

The package runs in a process of its own (`evaluation.mem0_bridge`); what it asks the model becomes steps of the
episode, so every token runs through the same engine and is counted. Its store is FAISS, its embedder ours.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from functools import lru_cache

from env.memory import Entry
from evaluation.mem0_bridge import Mem0Process
from evaluation.method import Ask, Method, Recalled

NEEDS = "mem0ai==0.1.118 and faiss-cpu"
KINDS = {"ADD": "create", "UPDATE": "update", "DELETE": "delete"}


class Mem0(Method):
    """The newest versions only add, and their prompt alone has 8,000 tokens: the version of the paper is used."""

    @staticmethod
    @lru_cache
    def unavailable() -> str | None:
        """Why it cannot run: mem0ai pins openai<1.110 and protobuf<6, so it needs an environment of its own."""
        found = subprocess.run([_python(), "-c", "import mem0, faiss"], capture_output=True, text=True, check=False)
        reason = (found.stderr.strip().splitlines() or ["?"])[-1]
        return f"{reason}; set ATOMMEM_MEM0_PYTHON to a Python that has {NEEDS}" if found.returncode else None

    async def read(self, chunks: Sequence[str]) -> AsyncGenerator[Ask, str]:
        """Give every chunk to mem0, answer what it asks the model, then look up every question."""
        ids: dict[str, int] = {}
        async with Mem0Process(_python(), self.parts.embedder, self.config.top_k) as mem0:
            for position, chunk in enumerate(chunks):
                mem0.begin("add", chunk)
                while (prompt := await mem0.asks()) is not None:
                    mem0.answer((yield Ask(prompt, "", position)))
                for change in await mem0.result():
                    entry_id = ids.setdefault(change["id"], len(ids) + 1)
                    if change["event"] in KINDS:
                        self.note(KINDS[change["event"]], change["memory"], entry_id)
            self.found: dict[str, list[Entry]] = {}
            for question in self.task.questions:
                mem0.begin("search", question.text)
                found = await mem0.result()
                self.found[question.text] = [Entry(ids.get(m["id"], 0), m["memory"], m["score"]) for m in found]
            self.counts["retrievals"] = mem0.searches

    async def recall(self, question: str) -> Recalled:
        """The `env.top_k` memories that mem0 finds."""
        return Recalled(self.found[question])


def _python() -> str:
    return os.environ.get("ATOMMEM_MEM0_PYTHON", sys.executable)
