"""Turns for supervised fine-tuning: episodes played by the scripted teacher, or by a policy, as parquet.

One row a turn: prompt_ids, output_ids (with the end token), task_id, turn. A token is written as it was shown or said,
so SFT trains on exactly what the policy will see.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.config import RunConfig
from env.embedding import BatchedEmbedder, make_embedder
from env.errors import UserError
from env.memory_env import MemoryEnv
from env.operations import DIALECTS
from env.tasks import TaskStream, make_source
from env.teacher import Teacher
from env.tokenizer import ChatTokenizer
from env.types import Message, Task
from rollout.types import Group

SCHEMA = pa.schema(
    [
        ("prompt_ids", pa.list_(pa.int32())),
        ("output_ids", pa.list_(pa.int32())),
        ("task_id", pa.string()),
        ("turn", pa.int32()),
    ]
)
EPISODES_PER_ROW_GROUP = 256
Rows = list[dict[str, Any]]


@dataclass
class CollectedTurns:
    """What a collection came to."""

    episodes: int = 0
    turns: int = 0
    tokens: int = 0
    reward: float = 0.0  # sum over the episodes

    @property
    def mean_reward(self) -> float:
        """Mean terminal reward of the episodes."""
        return self.reward / self.episodes if self.episodes else 0.0

    def add(self, rows: Rows, reward: float) -> None:
        """Count one episode."""
        self.episodes += 1
        self.turns += len(rows)
        self.tokens += sum(len(row["output_ids"]) for row in rows)
        self.reward += reward


def collect_from_teacher(
    config: RunConfig, episodes: int, out: Path, on_episode: Callable[[CollectedTurns], None]
) -> CollectedTurns:
    """Let the scripted teacher (skill: `env.teacher`) play `episodes` training tasks; write their turns to `out`.

    Raises UserError when a task is not the registry's, or when `out` exists.
    """
    return write_turns(_run(_teacher_episodes(config, episodes)), out, on_episode)


def collect_from_groups(
    groups: Iterable[Group], out: Path, on_episode: Callable[[CollectedTurns], None]
) -> CollectedTurns:
    """Write the turns of a policy's finished episodes to `out`."""
    finished = (t for group in groups for t in group.trajectories if t.failure is None)
    episodes = (
        ([_row(t.task_id, i, turn.prompt_ids, turn.output_ids) for i, turn in enumerate(t.turns)], t.reward)
        for t in finished
    )
    return write_turns(episodes, out, on_episode)


def write_turns(
    episodes: Iterable[tuple[Rows, float]], out: Path, on_episode: Callable[[CollectedTurns], None]
) -> CollectedTurns:
    """Write episodes (rows, reward) to a parquet file, which appears when it is whole; one that exists is refused."""
    if out.exists():
        raise UserError(f"{out} exists already: remove it or choose another name")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial, counts, rows = out.with_name(f".{out.name}.partial"), CollectedTurns(), []
    try:
        with pq.ParquetWriter(partial, SCHEMA, compression="zstd") as writer:
            for turns, reward in episodes:
                rows += turns
                counts.add(turns, reward)
                on_episode(counts)
                if counts.episodes % EPISODES_PER_ROW_GROUP == 0:
                    writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
                    rows = []
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
        if not counts.turns:
            raise UserError("no episode finished: nothing to write")
        partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)
    return counts


async def _teacher_episodes(config: RunConfig, episodes: int) -> AsyncIterator[tuple[Rows, float]]:
    """Episodes in the order of the task stream, many at a time so that their embeddings are batched."""
    tokenizer = ChatTokenizer(config.model)
    embedder = BatchedEmbedder(make_embedder(config.env.embedder))
    stream = TaskStream(make_source(config.env, "train", config.seed), config.seed)

    def play(position: int) -> Any:
        env = MemoryEnv(config.env, tokenizer, embedder, max_prompt_tokens=config.max_prompt_tokens)
        teacher = Teacher(config.env.teacher, config.seed + position, DIALECTS[config.env.dialect])
        return _teacher_episode(env, teacher, tokenizer, stream.at(position))

    width = config.rollout.episodes_per_runner
    for start in range(0, episodes, width):
        batch = range(start, min(start + width, episodes))
        for episode in await asyncio.gather(*(play(position) for position in batch)):
            yield episode


async def _teacher_episode(
    env: MemoryEnv, teacher: Teacher, tokenizer: ChatTokenizer, task: Task
) -> tuple[Rows, float]:
    rows: Rows = []
    messages: list[Message] | None = await env.reset(task)
    while messages is not None:
        try:
            text = teacher.act(env.view)
        except ValueError as error:
            raise UserError(f"task {task.task_id}: {error}; other tasks need a policy to play (--policy)") from error
        output = [*tokenizer.encode(text), tokenizer.eos_token_id]
        rows.append(_row(task.task_id, len(rows), tokenizer.encode_chat(messages), output))
        messages, *_ = await env.step(text, len(output))
    return rows, env.result().reward


def _row(task_id: str, turn: int, prompt_ids: list[int], output_ids: list[int]) -> dict[str, Any]:
    return {"prompt_ids": prompt_ids, "output_ids": output_ids, "task_id": task_id, "turn": turn}


def _run(items: AsyncIterator[Any]) -> Iterator[Any]:
    """An asynchronous iterator as a plain one."""
    with asyncio.Runner() as runner:
        while True:
            try:
                yield runner.run(anext(items))  # type: ignore[arg-type]
            except StopAsyncIteration:
                return
