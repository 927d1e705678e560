"""A tiny random Llama and batches of random turns over its vocabulary."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from learner.types import TrainSequence
from tests.fixtures import save_tiny_llama

VOCABULARY = 100


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("learner") / "model")


def random_batch(count: int, seed: int = 0, longest: int = 40) -> list[TrainSequence]:
    """Turns of mixed lengths with advantages and engine log-probabilities; two turns per trajectory."""
    draw = random.Random(seed)
    batch = []
    for index in range(count):
        prompt = [draw.randrange(6, VOCABULARY) for _ in range(draw.randint(3, longest))]
        output = [draw.randrange(6, VOCABULARY) for _ in range(draw.randint(1, 12))]
        worth = draw.choice([-0.5, 0.25, 0.75])
        logprobs = [-draw.random() * 8 for _ in output]
        batch.append(TrainSequence(prompt, output, [worth] * len(output), logprobs, index // 2))
    return batch


def recorded_batch(count: int, seed: int = 0) -> list[TrainSequence]:
    """The same turns as data for SFT: every output token has loss weight 1."""
    turns = random_batch(count, seed)
    return [TrainSequence(turn.prompt_ids, turn.output_ids, [1.0] * len(turn.output_ids)) for turn in turns]
