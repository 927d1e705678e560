"""Cuts a batch of turns into padded micro-batches under a token budget, balanced over the workers.

Turns are sorted by length, so that a micro-batch holds turns of nearly one length and little padding. Rows are padded
on the right: under a causal mask no real token sees the padding, so no mask is needed and attention stays on its
fastest path. (Measured on CPU against packing several turns into a row under a block-diagonal mask: padding is
quicker at every budget, and packing's cost grows with the square of the row.)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from learner.types import TrainSequence

PAD_ID = 0  # never looked at: padding is behind every real token and no position of it is scored


@dataclass
class MicroBatch:
    """One forward pass of B rows of L tokens with N output tokens, row after row."""

    input_ids: np.ndarray  # int64 [B, L]
    positions: np.ndarray  # int64 [N], where in the flattened [B * L] the token before each output token stands
    targets: np.ndarray  # int64 [N], the output tokens
    weights: np.ndarray  # float32 [N], shares in the loss of the whole batch; all 0 in a filler
    advantages: np.ndarray  # float32 [N]
    engine_logprobs: np.ndarray  # float32 [N], NaN where the engine's are not known
    old_logprobs: np.ndarray  # float32 [N], NaN: the learner's own of this very pass
    rows: list[int]  # index of each row's sequence in the batch
    chunks: int = 1  # that the N rows of logits are computed in; equal for what the workers run at the same time

    def split(self, values: np.ndarray, batch: Sequence[TrainSequence]) -> Iterator[tuple[int, np.ndarray]]:
        """Cut per-token ``values`` [N] back into (index of the sequence, its values)."""
        ends = np.cumsum([len(batch[row].output_ids) for row in self.rows])
        yield from zip(self.rows, np.split(values, ends[:-1]), strict=True)


def plan(
    batch: Sequence[TrainSequence],
    weights: Sequence[np.ndarray],
    *,
    workers: int,
    budget: int,
    logit_rows: int = 1024,
    old_logprobs: Sequence[np.ndarray] | None = None,
) -> list[list[MicroBatch]]:
    """Each worker's micro-batches: at most ``budget`` tokens each (padding included; a longer turn stands alone).

    All workers get the same number, since under ZeRO every backward pass is collective. Neighbours in length run at
    the same time, so that no worker waits long for another. Where turns run out, a filler of weight 0 takes the place.
    At most ``logit_rows`` output tokens are scored at once.
    """
    if not batch:
        raise ValueError("an update needs at least one sequence")
    for index, sequence in enumerate(batch):
        _check(index, sequence)
    chunks = _balanced_cut([len(sequence) for sequence in batch], budget, workers)
    filler = min(range(len(batch)), key=lambda row: len(batch[row]))
    made = [
        _build(batch, rows, weights, old_logprobs)
        if rows
        else _build(batch, [filler], [weight * 0 for weight in weights], old_logprobs)
        for rows in chunks
    ]
    for start in range(0, len(made), workers):
        together = made[start : start + workers]
        most = max(len(micro_batch.targets) for micro_batch in together)
        for micro_batch in together:
            micro_batch.chunks = -(-most // logit_rows)
    return [made[worker::workers] for worker in range(workers)]


def _balanced_cut(lengths: Sequence[int], budget: int, workers: int) -> list[list[int]]:
    """Indexes in a multiple of ``workers`` chunks of nearly equal cost; chunks beyond the number of turns are empty.

    The budget says how many chunks there must be at least; the smallest budget that does with so many evens them out.
    """
    count = -(-len(_cut(lengths, budget)) // workers) * workers
    least = bisect_left(range(budget), True, key=lambda smaller: len(_cut(lengths, smaller)) <= count)
    chunks = _cut(lengths, least)
    while len(chunks) < count:
        widest = max(range(len(chunks)), key=lambda i: len(chunks[i]))
        rows = chunks[widest]
        chunks[widest : widest + 1] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]] if len(rows) > 1 else [rows, []]
    return chunks


def _cut(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indexes sorted by falling length, cut so that rows * longest <= budget (or one row)."""
    chunks: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if chunks and lengths[chunks[-1][0]] * (len(chunks[-1]) + 1) <= budget:
            chunks[-1].append(index)
        else:
            chunks.append([index])
    return chunks


def _build(
    batch: Sequence[TrainSequence],
    rows: list[int],
    weights: Sequence[np.ndarray],
    old_logprobs: Sequence[np.ndarray] | None,
) -> MicroBatch:
    width = max(len(batch[row]) for row in rows)
    input_ids = np.full((len(rows), width), PAD_ID, dtype=np.int64)
    positions = []
    for line, row in enumerate(rows):
        prompt, output = batch[row].prompt_ids, batch[row].output_ids
        input_ids[line, : len(prompt)] = prompt
        input_ids[line, len(prompt) : len(prompt) + len(output)] = output
        start = line * width + len(prompt) - 1
        positions.append(np.arange(start, start + len(output)))

    def join(values: Sequence[Sequence[float] | np.ndarray], dtype: type) -> np.ndarray:
        return np.concatenate([np.asarray(part, dtype=dtype) for part in values])

    unknown = [np.full(len(batch[row].output_ids), np.nan) for row in rows]
    return MicroBatch(
        input_ids=input_ids,
        positions=np.concatenate(positions),
        targets=join([batch[row].output_ids for row in rows], np.int64),
        weights=join([weights[row] for row in rows], np.float32),
        advantages=join([batch[row].advantages for row in rows], np.float32),
        engine_logprobs=join(
            [batch[row].logprobs or blank for row, blank in zip(rows, unknown, strict=True)], np.float32
        ),
        old_logprobs=join([old_logprobs[row] for row in rows] if old_logprobs else unknown, np.float32),
        rows=rows,
    )


def _check(index: int, sequence: TrainSequence) -> None:
    outputs = len(sequence.output_ids)
    if not sequence.prompt_ids or not outputs:
        raise ValueError(
            f"sequence {index} has {len(sequence.prompt_ids)} prompt and {outputs} output tokens, expected 1 or more"
        )
    if len(sequence.advantages) != outputs:
        raise ValueError(f"sequence {index} has {len(sequence.advantages)} advantages for {outputs} output tokens")
    if sequence.logprobs and len(sequence.logprobs) != outputs:
        raise ValueError(f"sequence {index} has {len(sequence.logprobs)} logprobs for {outputs} output tokens")
