"""A scripted policy that also revises: "now" updates what it finds about somebody, "left" deletes it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from env.tokenizer import ChatTokenizer
from rollout.config import SamplingConfig
from rollout.types import Completion
from tests.serving.scripted import ScriptedPolicy


class Keeper(ScriptedPolicy):
    """Takes one permit per turn where permits are counted, so that a test can look between two chunks."""

    def __init__(self, tokenizer: ChatTokenizer, permits: asyncio.Semaphore | None = None) -> None:
        super().__init__(tokenizer)
        self._permits = permits

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None = None
    ) -> Completion:
        if self._permits is not None:
            await self._permits.acquire()
        return await super().generate(prompt_ids, sampling, affinity, seed)

    def says(self, prompt: str) -> str:
        chunk = re.search(r"read : (.*?) notes :", prompt)
        if chunk is None or not re.search(r" now | left ", chunk[1]):
            return f"<create_memory>{chunk[1]}</create_memory>" if chunk else super().says(prompt)
        name = " ".join(chunk[1].split()[:2])
        if "query :" not in prompt:
            return f"<read_memory>{name}</read_memory>"
        shown = re.findall(r"memory (\d+) : (.*?) (?=memory \d|do :)", prompt)
        found = [entry_id for entry_id, content in shown if content.startswith(name)]
        if not found:
            return f"<create_memory>{chunk[1]}</create_memory>"
        if " left " in chunk[1]:
            return f"<delete_memory>{found[0]}</delete_memory><scratchpad>{name} left</scratchpad>"
        return f"<update_memory>{found[0]}: {chunk[1]}</update_memory>"
