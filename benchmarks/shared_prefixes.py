"""Shared prefixes in the learner's forward and backward pass, against its own padded batches.

Both sides get the same model and the same turns, in this process, on one thread; what counts is its CPU time. Useful
tokens are the tokens of the turns as the engine had them (prompt and output), however they are computed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch
from transformers import LlamaConfig, PreTrainedModel

from benchmarks.results import Ratio, best, keep, side_by_side, times
from benchmarks.turns import SMOLLM2, TINY, allowed, fresh, group_turns, teacher_turns
from learner.advantages import imitation_weights
from learner.batching import MicroBatch, plan
from learner.losses import imitation_loss
from learner.model import Policy
from learner.types import TrainSequence

GROUP, PREFIX, SUFFIX = 8, 512, 64
ROUNDS = 3


def cut(batch: Sequence[TrainSequence], share: bool, budget: int = 16384) -> list[MicroBatch]:
    """The batch's micro-batches for one worker."""
    return plan(batch, imitation_weights(batch), workers=1, budget=budget, share_prefixes=share)[0]


def learn(model: PreTrainedModel, micro_batches: Sequence[MicroBatch]) -> None:
    """Forward and backward of all micro-batches, without DeepSpeed and without an optimizer's step."""
    model.zero_grad()
    for made in micro_batches:
        arrays = (made.input_ids, made.positions, made.targets, made.weights)
        ids, positions, targets, weights = map(torch.from_numpy, arrays)
        logprobs, entropy = Policy(model)(ids, positions, targets, made.chunks, layout=made.layout)
        imitation_loss(logprobs, entropy, weights)[0].backward()


def shared_against_padded(
    name: str, config: LlamaConfig, batch: list[TrainSequence], note: str, target: float | None = None
) -> Ratio:
    """The same turns as one row per micro-batch with shared prefixes, and as padded rows."""
    padded, shared = fresh(config), fresh(config, "shared_prefixes")
    plain_batches, shared_batches = cut(batch, False), cut(batch, True)
    seconds = side_by_side(
        ROUNDS,
        time.process_time,
        padded=lambda: learn(padded, plain_batches),
        shared=lambda: learn(shared, shared_batches),
    )
    tokens = sum(map(len, batch))
    speeds = {side: f"{tokens / best(values):,.0f} useful tokens/s" for side, values in seconds.items()}
    ratio = times(seconds, "padded", "shared")
    return Ratio(
        name, speeds["shared"], speeds["padded"], ratio, target,
        "own padded token-budget batches, learner.share_prefixes: false", note.format(of=ratio),
    )  # fmt: skip


def prefix_ratios() -> Iterator[Ratio]:
    """At 512:64 in groups of 8 for two shapes; where nothing is shared; and for SFT turns as they are."""
    yield of_groups("tiny policy", TINY)
    alone = group_turns(TINY.vocab_size, 8, 1, 256, 64)
    yield shared_against_padded("shared prefixes: nothing to share", TINY, alone, "the worst case", 0.95)
    turns = teacher_turns("recipes/tiny-sft.yaml", 6)
    padded, shared = (sum(made.input_ids.size for made in cut(turns, share)) for share in (False, True))
    note = f"{sum(map(len, turns))} tokens of turns are {shared} computed ones, or {padded} with padding to the longest"
    yield shared_against_padded("shared prefixes: SFT, teacher's turns of 6 tasks", TINY, turns, note)
    yield of_groups("SmolLM2, 2 of 30 layers", SMOLLM2)


def of_groups(name: str, config: LlamaConfig) -> Ratio:
    """The turns of one group, with the limit that their operations set."""
    batch = group_turns(config.vocab_size, 1, GROUP, PREFIX, SUFFIX)
    limit = allowed(config, GROUP, PREFIX, SUFFIX)
    tokens = GROUP * (PREFIX + SUFFIX) / (PREFIX + GROUP * SUFFIX)
    note = f"operations allow {limit:.2f}x, tokens alone {tokens:.2f}x; reached {{of:.2f}}x"
    return shared_against_padded(f"shared prefixes: {name}, 512:64, group 8", config, batch, note, 3.0)


def main() -> None:
    """Measure and keep."""
    started = time.monotonic()
    torch.set_num_threads(1)
    keep("shared_prefixes", prefix_ratios(), started)


if __name__ == "__main__":
    main()
