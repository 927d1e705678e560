"""Supervised fine-tuning on recorded turns: the loss is on the output tokens only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from env.errors import UserError
from learner.config import LearnerConfig, SFTConfig
from learner.group import LearnerGroup
from learner.types import TrainSequence

COLUMNS = ("prompt_ids", "output_ids", "task_id", "turn")


def read_turns(path: str | Path, max_tokens: int) -> tuple[list[TrainSequence], int]:
    """The turns of a parquet file, and how many were dropped as longer than ``max_tokens``.

    Columns: prompt_ids and output_ids (lists of int32), task_id (str), turn (int). Raises UserError for a missing or
    unreadable file, a missing column, and a file with no usable turn.
    """
    import pyarrow.parquet as parquet
    from pyarrow import ArrowException

    try:
        table = parquet.read_table(path)
    except (OSError, ArrowException) as error:
        raise UserError(f"sft.data '{path}' is not a readable parquet file: {error}") from error
    if missing := [name for name in COLUMNS if name not in table.column_names]:
        raise UserError(f"sft.data '{path}' has no column {missing[0]!r}; expected {', '.join(COLUMNS)}")
    prompts, outputs = table["prompt_ids"].to_pylist(), table["output_ids"].to_pylist()
    turns = []
    for row, (prompt, output) in enumerate(zip(prompts, outputs, strict=True)):
        if not prompt or not output:
            raise UserError(f"sft.data '{path}', row {row}: prompt_ids and output_ids must not be empty")
        turns.append(TrainSequence(prompt, output, [1.0] * len(output)))
    kept = [turn for turn in turns if len(turn) <= max_tokens]
    if not kept:
        raise UserError(f"sft.data '{path}' has no turn of at most {max_tokens} tokens ({len(turns)} turns in all)")
    return kept, len(turns) - len(kept)


def batches(count: int, config: SFTConfig, seed: int) -> Iterator[np.ndarray]:
    """Row indexes of each step: a fresh permutation per epoch; an epoch's last batch may be smaller."""
    for epoch in range(config.epochs):
        order = np.random.default_rng((seed, epoch)).permutation(count)
        yield from np.split(order, range(config.batch_turns, count, config.batch_turns))


def count_steps(count: int, config: SFTConfig) -> int:
    """Updates of a whole run over ``count`` turns."""
    steps = config.epochs * -(-count // config.batch_turns)
    return min(steps, config.max_steps or steps)


def run_sft(
    model_path: str,
    output: Path,
    config: SFTConfig,
    learner: LearnerConfig,
    *,
    seed: int,
    on_step: Callable[[dict[str, float]], None] = lambda metrics: None,
) -> dict[str, float]:
    """Fine-tune ``model_path`` on ``config.data`` and save the model (Hugging Face folder) at ``output``.

    ``on_step`` gets every update's metrics (LearnerGroup.update) with step, steps, turns, seconds and
    speed/train_tokens_per_s (prompt and output tokens without padding). Returns the last ones, with turns/dropped.
    Ray must be initialised. Raises UserError for unusable data or a model that does not load.
    """
    if config.data is None:
        raise UserError("sft.data is not set; expected a parquet file written by `atommem collect`")
    if output.exists():
        raise UserError(f"'{output}' exists already; choose another output or remove it")
    turns, dropped = read_turns(config.data, config.max_tokens)
    steps = count_steps(len(turns), config)
    group = LearnerGroup(learner, model_path, seed=seed, optimizer=config.optimizer, total_steps=steps)
    try:
        metrics: dict[str, float] = {}
        for step, rows in enumerate(islice(batches(len(turns), config, seed), steps), start=1):
            started = time.perf_counter()
            batch = [turns[row] for row in rows]
            metrics = group.update(batch, "sft")
            seconds = time.perf_counter() - started
            speed = sum(map(len, batch)) / seconds
            metrics |= {"step": step, "steps": steps, "turns": len(batch), "seconds": seconds}
            metrics["speed/train_tokens_per_s"] = speed
            on_step(metrics)
        group.save(output, trainer_state=False)
    finally:
        group.shutdown()
    return metrics | {"turns/dropped": dropped}
