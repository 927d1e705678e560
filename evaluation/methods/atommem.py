"""AtomMem itself: the model decides about every operation. The environment is the one it is trained in."""

from __future__ import annotations

from env.memory_env import MemoryEnv
from evaluation.method import Parts


def atommem(parts: Parts) -> MemoryEnv:
    """The memory environment of the variant's configuration."""
    return MemoryEnv(parts.config, parts.tokenizer, parts.embedder, None, parts.max_prompt_tokens)
