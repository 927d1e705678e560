"""A policy that works its memory at every step as the paper's does, in words that differ between rollouts."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster.tiny_model import build
from env.registry_words import CITIES, FIRST_NAMES, LAST_NAMES
from env.tokenizer import ChatTokenizer
from rollout.config import SamplingConfig
from rollout.types import Completion, Generator

WORDS = (*FIRST_NAMES, *LAST_NAMES, *CITIES)
NOTE, ENTRY = 24, 6  # words of the scratchpad and of an entry, at a chunk of 512 tokens
SCALED = (  # the paper's proportions with chunks of 512 tokens for its 4,096: half a dozen chunks, K entries of a line
    "env.registry.people=200", "env.registry.companies=12", "env.registry.questions_max=2", "env.chunk_tokens=512",
    "env.scratchpad_tokens=32", "env.retrieved_tokens=48", "env.max_reads=0", "env.max_steps=null",
    "rollout.engine.max_model_len=768", "rollout.sampling.max_new_tokens=64",
)  # fmt: skip


class Scribe:
    """The engine computes every prompt and as many output tokens as are written; the words come from the seed.

    So two runs with the same seeds play the same episodes, whatever the order of the prompt's parts.
    """

    def __init__(self, engine: Generator, tokenizer: ChatTokenizer) -> None:
        self.engine, self._tokenizer = engine, tokenizer

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None = None
    ) -> Completion:
        """See `rollout.types.Generator`."""
        draw = random.Random(seed)
        text = _answer(draw) if "ask :" in self._tokenizer.decode(prompt_ids) else _notes(draw)
        ids = self._tokenizer.encode(text)
        length = sampling.model_copy(update={"max_new_tokens": len(ids)})
        made = await self.engine.generate(prompt_ids, length, affinity, seed)
        return Completion(ids, [-1.0] * len(ids), made.policy_version, "stop", made.cached_tokens)


def _notes(draw: random.Random) -> str:
    note, entry, query = (" ".join(draw.choices(WORDS, k=k)) for k in (NOTE, ENTRY, 2))
    return (
        f"<scratchpad>{note}</scratchpad><create_memory>{entry}</create_memory><read_memory>{query}</read_memory>"
    )


def _answer(draw: random.Random) -> str:
    return f"<answer>{draw.choice(CITIES)}</answer>"


@contextmanager
def untrained(hidden: int = 256, layers: int = 3, heads: int = 8) -> Iterator[str]:
    """A folder with random weights, which hardly ever end an output before its length; the tiny policy's words."""
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder) / "model", hidden=hidden, layers=layers, heads=heads)
        yield f"{folder}/model"
