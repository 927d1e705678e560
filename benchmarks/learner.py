"""The learner without shared prefixes, against the loops that users would write; same model, same turns, one thread."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from benchmarks.results import Ratio, best, keep, side_by_side, times
from benchmarks.shared_prefixes import PREFIX, SUFFIX, cut, learn
from benchmarks.turns import TINY, fresh, group_turns, teacher_turns
from learner.config import LearnerConfig, OptimizerConfig
from learner.types import TrainSequence
from learner.worker import LearnerWorker

TRL_BATCH = 8  # per_device_train_batch_size of transformers and TRL
ROUNDS = 2


def padded_loop(model: PreTrainedModel, batch: Sequence[TrainSequence]) -> None:
    """A step as TRL's trainers make it: turns in the order they come, rows padded to the longest of each
    micro-batch with an attention mask, logits at all positions, the loss over the outputs."""
    model.zero_grad()
    outputs = sum(len(turn.output_ids) for turn in batch)
    for start in range(0, len(batch), TRL_BATCH):
        rows = batch[start : start + TRL_BATCH]
        width = max(map(len, rows))
        ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
        labels = torch.full((len(rows), width), -100)
        for line, turn in enumerate(rows):
            prompt, length = len(turn.prompt_ids), len(turn)
            ids[line, :length], mask[line, :length] = torch.tensor(turn.prompt_ids + turn.output_ids), 1
            labels[line, prompt:length] = torch.tensor(turn.output_ids)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        total = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum")
        (total / outputs).backward()


def against_trl() -> Ratio:
    """Without prefix sharing, on the teacher's turns in the order of their episodes."""
    turns = teacher_turns("recipes/tiny-sft.yaml", 6)
    np.random.default_rng(0).shuffle(turns)
    model, batches = fresh(TINY), cut(turns, False, 2048)
    seconds = side_by_side(
        ROUNDS, time.process_time, ours=lambda: learn(model, batches), loop=lambda: padded_loop(model, turns)
    )
    tokens = sum(map(len, turns))
    speeds = {side: f"{tokens / best(values):,.0f} tokens/s" for side, values in seconds.items()}
    return Ratio(
        "learner: without prefix sharing, against a padded loop", speeds["ours"], speeds["loop"],
        times(seconds, "loop", "ours"), 2.0, "own loop after TRL's SFTTrainer (batch of 8, pad to longest, all logits)",
    )  # fmt: skip


def against_bare() -> Ratio:
    """A whole update with DeepSpeed (stage 0, clipping, AdamW) against forward and backward alone."""
    batch = group_turns(TINY.vocab_size, 4, 1, PREFIX, SUFFIX)
    batches = cut(batch, False)
    worker = started_worker()
    model = fresh(TINY)
    seconds = side_by_side(
        ROUNDS,
        time.process_time,
        bare=lambda: learn(model, batches),
        deepspeed=lambda: worker.update(batches, "sft"),
    )
    return Ratio(
        "learner: DeepSpeed update against bare forward+backward", f"{best(seconds['deepspeed']):.2f} s",
        f"{best(seconds['bare']):.2f} s", times(seconds, "bare", "deepspeed"), 0.9,
        "the same micro-batches in plain torch, no optimizer step", "1 is no overhead",
    )  # fmt: skip


def started_worker() -> LearnerWorker:
    """One DeepSpeed rank in this process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = LearnerConfig(dtype="float32", share_prefixes=False)
    worker = LearnerWorker(0, 1)
    worker.setup("models/tiny-policy", config, OptimizerConfig(), None, 0, ("127.0.0.1", port))
    return worker


def main() -> None:
    """Measure and keep."""
    started = time.monotonic()
    torch.set_num_threads(1)
    keep("learner", (part() for part in (against_trl, against_bare)), started)


if __name__ == "__main__":
    main()
