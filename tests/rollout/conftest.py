"""Fixtures of the rollout tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures import save_tiny_llama


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied random Llama with its tokenizer."""
    return save_tiny_llama(tmp_path_factory.mktemp("tiny") / "model", seed=0)
