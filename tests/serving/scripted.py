"""A policy of a few lines over the tiny tokenizer: it stores every chunk whole, looks up a question and answers it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from env.tokenizer import ChatTokenizer
from rollout.config import SamplingConfig
from rollout.errors import EngineError
from rollout.types import Completion


class ScriptedPolicy:
    """Implements `rollout.types.Generator`. `broken` makes it fail; `gate` holds every call until it is set."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self.broken = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.prompts: list[str] = []
        self.prompt_ids: list[list[int]] = []
        self.called = asyncio.Event()
        self.cancelled = 0

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None = None
    ) -> Completion:
        self.called.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.broken:
            raise EngineError("switched off")
        prompt = self._tokenizer.decode(prompt_ids)
        self.prompts.append(prompt)
        self.prompt_ids.append(list(prompt_ids))
        ids = self._tokenizer.encode(self.says(prompt))
        return Completion(ids, [0.0] * len(ids), 1, "stop")

    def says(self, prompt: str) -> str:
        if chunk := re.search(r"read : (.*?)(?:full : \d|notes :)", prompt):
            text = chunk[1].strip()  # empty: nothing that this tokenizer can spell
            return f"<create_memory>{text}</create_memory><scratchpad>{text}</scratchpad>" if text else ""
        question = re.search(r"ask : (.*?)(?:full : \d|notes :)", prompt)
        assert question, prompt
        if shown := re.search(r"memory \d+ : (.*?) (?:memory \d|do :)", prompt):
            return f"<answer>{shown[1]}</answer>"
        if "memory none" in prompt or not question[1].strip():
            return "<answer>nowhere</answer>"
        return f"<read_memory>{question[1].strip()}</read_memory>"
