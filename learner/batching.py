"""Cuts a batch of turns into micro-batches under a token budget, balanced over the workers.

Shared: turns are sorted by their tokens, so that those with a common prefix are neighbours, and a micro-batch is one
row that holds every shared token once (learner/prefixes.py).

Padded: turns are sorted by length, so that a micro-batch holds turns of nearly one length and little padding. Rows are
padded on the right: under a causal mask no real token sees the padding, so no mask is needed and attention stays on
its fastest path.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from learner.prefixes import Layout, pack, shared_lengths
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
    layout: Layout | None = None  # of a row that shares prefixes
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
    share_prefixes: bool = False,
    old_logprobs: Sequence[np.ndarray] | None = None,
) -> list[list[MicroBatch]]:
    """Each worker's micro-batches: at most ``budget`` tokens each (padding included; a longer turn stands alone).
    With ``share_prefixes`` a token that several turns of a micro-batch begin with counts, and is computed, once.

    All workers get the same number, since under ZeRO every backward pass is collective. Neighbours in length run at
    the same time, so that no worker waits long for another. Where turns run out, a filler of weight 0 takes the place.
    At most ``logit_rows`` output tokens are scored at once.
    """
    if not batch:
        raise ValueError("an update needs at least one sequence")
    for index, sequence in enumerate(batch):
        _check(index, sequence)
    turns = [np.array(sequence.prompt_ids + sequence.output_ids, np.int64) for sequence in batch]
    order, grow = _by_prefix(turns) if share_prefixes else _by_length(turns)
    lay = _shared if share_prefixes else _padded
    filler = min(range(len(batch)), key=lambda row: len(batch[row]))
    made = [
        _build(batch, rows, lay(turns, rows), weights, old_logprobs)
        if rows
        else _build(batch, [filler], lay(turns, [filler]), [weight * 0 for weight in weights], old_logprobs)
        for rows in _balanced_cut(order, grow, budget, workers)
    ]
    for start in range(0, len(made), workers):
        together = made[start : start + workers]
        most = max(len(micro_batch.targets) for micro_batch in together)
        for micro_batch in together:
            micro_batch.chunks = -(-most // logit_rows)
    return [made[worker::workers] for worker in range(workers)]


# Tokens of a micro-batch after one more row: (rows so far, their tokens, the row) -> tokens.
_Grow = Callable[[list[int], int, int], int]


def _by_length(turns: Sequence[np.ndarray]) -> tuple[list[int], _Grow]:
    """Falling lengths; rows are as wide as the first one."""
    order = sorted(range(len(turns)), key=lambda row: -len(turns[row]))
    return order, lambda rows, size, row: len(turns[rows[0] if rows else row]) * (len(rows) + 1)


def _by_prefix(turns: Sequence[np.ndarray]) -> tuple[list[int], _Grow]:
    """Lexicographic order; a row adds what the row before it does not begin with."""
    order = sorted(range(len(turns)), key=lambda row: turns[row].astype(">u4").tobytes())
    shared = dict(zip(order, shared_lengths([turns[row] for row in order]), strict=True))
    return order, lambda rows, size, row: size + len(turns[row]) - (shared[row] if rows else 0)


def _balanced_cut(order: Sequence[int], grow: _Grow, budget: int, workers: int) -> list[list[int]]:
    """Indexes in a multiple of ``workers`` chunks of nearly equal cost; chunks beyond the number of turns are empty.

    The budget says how many chunks there must be at least; the smallest budget that does with so many evens them out.
    """
    count = -(-len(_cut(order, grow, budget)) // workers) * workers
    least = bisect_left(range(budget), True, key=lambda smaller: len(_cut(order, grow, smaller)) <= count)
    chunks = _cut(order, grow, least)
    while len(chunks) < count:
        widest = max(range(len(chunks)), key=lambda i: len(chunks[i]))
        rows = chunks[widest]
        chunks[widest : widest + 1] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]] if len(rows) > 1 else [rows, []]
    return chunks


def _cut(order: Sequence[int], grow: _Grow, budget: int) -> list[list[int]]:
    """The order cut into chunks that stay within the budget (or have one row)."""
    chunks: list[list[int]] = []
    size = 0
    for row in order:
        more = grow(chunks[-1], size, row) if chunks else 0
        if chunks and more <= budget:
            chunks[-1].append(row)
            size = more
        else:
            chunks.append([row])
            size = grow([], 0, row)
    return chunks


@dataclass
class _Input:
    """What a forward pass reads, and where in it (flattened) each row's tokens are."""

    input_ids: np.ndarray
    places: list[np.ndarray]
    layout: Layout | None = None


def _padded(turns: Sequence[np.ndarray], rows: list[int]) -> _Input:
    width = max(len(turns[row]) for row in rows)
    input_ids = np.full((len(rows), width), PAD_ID, dtype=np.int64)
    for line, row in enumerate(rows):
        input_ids[line, : len(turns[row])] = turns[row]
    return _Input(input_ids, [np.arange(width) + line * width for line in range(len(rows))])


def _shared(turns: Sequence[np.ndarray], rows: list[int]) -> _Input:
    return _Input(*pack([turns[row] for row in rows]))


def _build(
    batch: Sequence[TrainSequence],
    rows: list[int],
    laid: _Input,
    weights: Sequence[np.ndarray],
    old_logprobs: Sequence[np.ndarray] | None,
) -> MicroBatch:
    positions = []
    for place, row in zip(laid.places, rows, strict=True):
        before = len(batch[row].prompt_ids) - 1
        positions.append(place[before : before + len(batch[row].output_ids)])

    def join(values: Sequence[Sequence[float] | np.ndarray], dtype: type) -> np.ndarray:
        return np.concatenate([np.asarray(part, dtype=dtype) for part in values])

    unknown = [np.full(len(batch[row].output_ids), np.nan) for row in rows]
    return MicroBatch(
        input_ids=laid.input_ids,
        positions=np.concatenate(positions),
        targets=join([batch[row].output_ids for row in rows], np.int64),
        weights=join([weights[row] for row in rows], np.float32),
        advantages=join([batch[row].advantages for row in rows], np.float32),
        engine_logprobs=join(
            [batch[row].logprobs or blank for row, blank in zip(rows, unknown, strict=True)], np.float32
        ),
        old_logprobs=join([old_logprobs[row] for row in rows] if old_logprobs else unknown, np.float32),
        rows=rows,
        layout=laid.layout,
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
