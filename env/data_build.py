"""Build a fixed set of tasks once and keep it as parquet: what `atommem data build` does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from env.config import EnvConfig
from env.errors import UserError
from env.task_files import save_tasks
from env.tasks import Split, TaskSource, TaskStream, make_source
from env.types import Task


def build(config: EnvConfig, out: Path, tasks: int, seed: int, split: Split) -> dict[str, Any]:
    """Write the first `tasks` tasks of the stream given by `config`, `seed` and `split` to `out` (parquet).

    Returns path, split, seed, counts (tasks, questions, units, characters, skipped records) and the content
    hash. Raises UserError when `tasks` is more than the source has (its tasks would repeat), or when `out`
    exists."""
    source = make_source(config, split, seed)
    if not 1 <= tasks <= len(source):
        where = config.data or config.task
        raise UserError(f"tasks = {tasks}: the {split} split of {where} gives 1 to {len(source)}")
    counts = dict.fromkeys(("tasks", "questions", "units", "characters"), 0)
    counts["skipped"] = getattr(source, "skipped", 0)
    content_hash = save_tasks(_counted(source, tasks, seed, counts), out)
    return {"path": str(out), "split": split, "seed": seed, **counts, "content_hash": content_hash}


def _counted(source: TaskSource, count: int, seed: int, counts: dict[str, int]) -> Iterator[Task]:
    stream = TaskStream(source, seed)
    for position in range(count):
        task = stream.at(position)
        counts["tasks"] += 1
        counts["questions"] += len(task.questions)
        counts["units"] += len(task.units)
        counts["characters"] += sum(map(len, task.units))
        yield task
