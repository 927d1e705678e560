"""Shared pieces of the environment's tests: the tiny policy's tokenizer and a real hashing embedder."""

import pytest

from cluster.tiny_model import build_tokenizer
from env.config import EnvConfig, HashingEmbedderConfig
from env.embedding import BatchedEmbedder, make_embedder
from env.memory_env import MemoryEnv
from env.tokenizer import ChatTokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory) -> ChatTokenizer:
    directory = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(directory)
    return ChatTokenizer(directory)


@pytest.fixture
def config() -> EnvConfig:
    return EnvConfig(
        prompt="compact",
        chunk_tokens=14,
        chunk_boundary="unit",
        top_k=2,
        max_reads=2,
        scratchpad_tokens=16,
        retrieved_tokens=40,
    )


@pytest.fixture
def make_env(tokenizer):
    """A function that builds an environment from a config; environments of one test share one embedder."""
    embedder = BatchedEmbedder(make_embedder(HashingEmbedderConfig(dim=256)))

    def make(config: EnvConfig, **options) -> MemoryEnv:
        return MemoryEnv(config, tokenizer, embedder, **options)

    return make
