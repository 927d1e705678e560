"""Micro-batches: nothing lost, nothing twice, within the budget, as many for every worker."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.batching import plan
from learner.types import TrainSequence
from tests.learner.conftest import grouped_batch, random_batch


def ones(batch: list[TrainSequence]) -> list[np.ndarray]:
    return [np.ones(len(sequence.output_ids), dtype=np.float32) for sequence in batch]


def test_one_micro_batch_in_full() -> None:
    batch = [TrainSequence([7, 8], [9], [0.5], [-0.1], 0), TrainSequence([1, 2, 3], [4, 5], [1.0, 1.0], [], 1)]
    ((made,),) = plan(batch, ones(batch), workers=1, budget=10)
    assert made.rows == [1, 0]
    assert made.input_ids.tolist() == [[1, 2, 3, 4, 5], [7, 8, 9, 0, 0]]
    assert made.positions.tolist() == [2, 3, 6]  # the tokens before 4, 5 and 9
    assert made.targets.tolist() == [4, 5, 9]
    assert made.advantages.tolist() == [1.0, 1.0, 0.5]
    assert np.isnan(made.engine_logprobs[:2]).all() and made.engine_logprobs[2] == np.float32(-0.1)
    assert np.isnan(made.old_logprobs).all()
    assert [(row, values.tolist()) for row, values in made.split(np.array([1, 2, 3]), batch)] == [(1, [1, 2]), (0, [3])]


@settings(max_examples=60, deadline=None)
@given(
    groups=st.integers(0, 10),
    seed=st.integers(0, 99),
    workers=st.integers(1, 5),
    budget=st.integers(16, 300),
    share=st.booleans(),
)
def test_every_token_is_scored_once_and_the_budget_holds(
    groups: int, seed: int, workers: int, budget: int, share: bool
) -> None:
    batch = grouped_batch(groups, 4, seed) if groups > 1 else random_batch(1 + groups, seed)
    shares = plan(batch, ones(batch), workers=workers, budget=budget, share_prefixes=share)
    assert len(shares) == workers and len({len(share) for share in shares}) == 1
    made = [micro_batch for share in shares for micro_batch in share]
    real = [micro_batch for micro_batch in made if micro_batch.weights.any()]
    assert sorted(row for micro_batch in real for row in micro_batch.rows) == list(range(len(batch)))
    assert sum(m.weights.sum() for m in made) == sum(len(s.output_ids) for s in batch)
    assert all(m.input_ids.size <= budget or len(m.rows) == 1 for m in made)
    assert len(made) - len(real) < workers
    for micro_batch in made:
        ends = iter(micro_batch.targets)
        flat = micro_batch.input_ids.flatten()
        for row, places in micro_batch.split(micro_batch.positions, batch):
            before = [batch[row].prompt_ids[-1], *batch[row].output_ids[:-1]]
            assert flat[places].tolist() == before
            assert [next(ends) for _ in before] == batch[row].output_ids


def test_workers_cut_the_logits_of_one_round_into_as_many_chunks() -> None:
    batch = [TrainSequence([1], [2] * outputs, [1.0] * outputs) for outputs in (30, 9, 4, 4)]
    shares = plan(batch, ones(batch), workers=2, budget=16, logit_rows=8)
    assert [[m.chunks for m in share] for share in shares] == [[4, 1], [4, 1]]


def test_workers_get_nearly_the_same_number_of_tokens() -> None:
    batch = random_batch(300, longest=200)
    shares = plan(batch, ones(batch), workers=4, budget=2048)
    sizes = [sum(m.input_ids.size for m in share) for share in shares]
    assert max(sizes) < 1.1 * min(sizes)
    padded, real = sum(sizes), sum(len(sequence) for sequence in batch)
    assert padded < 1.1 * real


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        (TrainSequence([], [1], [1.0]), "0 prompt and 1 output"),
        (TrainSequence([1], [], []), "1 prompt and 0 output"),
        (TrainSequence([1], [1, 2], [1.0]), "1 advantages for 2"),
        (TrainSequence([1], [1, 2], [1.0, 1.0], [-1.0]), "1 logprobs for 2"),
    ],
)
def test_malformed_sequences_are_named(sequence: TrainSequence, message: str) -> None:
    with pytest.raises(ValueError, match=f"sequence 0 .*{message}"):
        plan([sequence], [np.ones(1)], workers=1, budget=16)
