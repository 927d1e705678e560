"""One episode: observation -> ids -> completion -> text -> step, until it ends or fails at some boundary."""

from __future__ import annotations

import hashlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from env.errors import JudgeError, TaskError
from env.memory_env import EpisodeResult
from env.types import Message, StepRecord, Task
from rollout.config import SamplingConfig
from rollout.errors import EngineError
from rollout.types import Boundary, Completion, Failure, Generator, GroupRequest, Trajectory, Turn

logger = logging.getLogger(__name__)


class Environment(Protocol):
    """What an episode needs of an environment; `env.memory_env.MemoryEnv` is one."""

    async def reset(self, task: Task) -> list[Message]:
        """First observation."""
        ...

    async def step(
        self, text: str, tokens: int = 0
    ) -> tuple[list[Message] | None, float, bool, bool, StepRecord]:
        """Observation, reward, terminated, truncated, and the record of the step."""
        ...

    def result(self) -> EpisodeResult:
        """What the episode came to, once it has ended."""
        ...


class Tokenizer(Protocol):
    """What an episode needs of a tokenizer; `env.tokenizer.ChatTokenizer` is one."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids."""
        ...

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Prompt ids of an observation."""
        ...


async def run_episode(
    make_env: Callable[[GroupRequest], Environment],
    generator: Generator,
    tokenizer: Tokenizer,
    request: GroupRequest,
    index: int,
) -> Trajectory:
    """Run episode ``index`` of a group to its end. A bad episode is data: it comes back with its failure."""
    started = time.monotonic()
    trajectory = Trajectory(request.task.task_id, index, turns=[])
    try:
        await _play(make_env(request), generator, tokenizer, request, trajectory)
    except Exception as error:  # the one place where whatever an episode raises becomes its failure
        trajectory.failure = Failure(boundary(error), f"{type(error).__name__}: {error}")
        logger.warning("episode %d of task %s failed", index, request.task.task_id, exc_info=error)
    trajectory.seconds = time.monotonic() - started
    return trajectory


async def _play(
    env: Environment,
    generator: Generator,
    tokenizer: Tokenizer,
    request: GroupRequest,
    trajectory: Trajectory,
) -> None:
    first = await env.reset(request.task)

    def seed(turn: int) -> int:
        return turn_seed(request, trajectory.index, turn)

    async for turn in turns(env, first, generator, tokenizer, request.sampling, request.group_id, seed):
        trajectory.turns.append(turn)
    result = env.result()
    trajectory.reward, trajectory.answers, trajectory.metrics = result.reward, result.answers, result.metrics


async def turns(
    env: Environment,
    first: list[Message],
    generator: Generator,
    tokenizer: Tokenizer,
    sampling: SamplingConfig,
    affinity: int,
    seed: Callable[[int], int],
) -> AsyncIterator[Turn]:
    """Play an environment from its first observation to its end; ``seed`` of a turn's number makes it repeatable."""
    messages: list[Message] | None = first
    for number in itertools.count():
        if messages is None:
            return
        started = time.monotonic()
        prompt_ids = tokenizer.encode_chat(messages)
        completion = await generator.generate(prompt_ids, sampling, affinity, seed(number))
        text = tokenizer.decode(completion.token_ids)
        messages, _, terminated, truncated, record = await env.step(text, len(completion.token_ids))
        yield _turn(prompt_ids, completion, record, time.monotonic() - started)
        if terminated or truncated:
            return


def _turn(prompt_ids: list[int], completion: Completion, record: StepRecord, seconds: float) -> Turn:
    return Turn(
        prompt_ids,
        completion.token_ids,
        completion.logprobs,
        completion.policy_version,
        completion.finish_reason,
        record,
        completion.cached_tokens,
        seconds,
    )


def boundary(error: Exception) -> Boundary:
    """Where an episode's error belongs: engine, task or judge by its class, else the environment."""
    if isinstance(error, EngineError):
        return "engine"
    if isinstance(error, TaskError):
        return "task"
    return "judge" if isinstance(error, JudgeError) else "environment"


def turn_seed(request: GroupRequest, index: int, turn: int) -> int:
    """A seed in [0, 2^31) of its own for every turn of every episode, the same on every machine."""
    name = f"{request.seed}/{request.group_id}/{index}/{turn}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "big") >> 1
