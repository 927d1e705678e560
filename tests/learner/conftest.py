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


def grouped_batch(groups: int = 3, size: int = 4, seed: int = 0) -> list[TrainSequence]:
    """Turns as GRPO has them, shuffled: all begin alike, then each group alike; some are equal, some end early."""
    draw = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(6, VOCABULARY) for _ in range(count)]

    system, batch = tokens(5), []
    for _ in range(groups):
        chunk, note = tokens(draw.randint(10, 30)), tokens(4)
        for member in range(size):
            prompt = system + chunk + (note if member % 2 else tokens(draw.randint(0, 6)))
            output = tokens(draw.randint(1, 12))
            batch.append(TrainSequence(prompt, output, [draw.choice([-0.5, 0.75])] * len(output), [], len(batch)))
    first, second = batch[0], batch[1]
    batch.append(TrainSequence(first.prompt_ids, first.output_ids, [0.25] * len(first.output_ids), [], len(batch)))
    batch.append(TrainSequence(second.prompt_ids[:9], second.prompt_ids[9:11], [1.0, 1.0], [], len(batch)))
    draw.shuffle(batch)
    return batch
