"""The wire types between environments, engines and learner.

Example, one turn of two generated tokens::

    Turn(prompt_ids=[1, 17, 5], output_ids=[8, 2], logprobs=[-0.1, -0.7], policy_version=3, ...)

The learner trains on ``output_ids`` exactly as they were sampled: nothing is tokenised twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from env.types import AnswerRecord, StepRecord, Task
from rollout.config import SamplingConfig

Boundary = Literal["engine", "environment", "task", "judge"]


@dataclass
class Completion:
    """What an engine returns for one prompt.

    ``logprobs[i]`` belongs to ``token_ids[i]`` (natural logarithm, at the sampling temperature).
    ``policy_version`` is the oldest weight version that took part.
    """

    token_ids: list[int]
    logprobs: list[float]
    policy_version: int
    finish_reason: str
    cached_tokens: int = 0  # prompt tokens that the engine's prefix cache had


class Generator(Protocol):
    """Whatever samples completions: the engine pool, or a small in-process policy in tests."""

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None = None
    ) -> Completion:
        """Sample one completion. Equal ``affinity`` means a shared prefix; ``seed`` makes it repeatable.

        Raises EngineError when no engine answers, PromptTooLongError when the prompt fills the window.
        """
        ...


@dataclass(frozen=True)
class GroupRequest:
    """``group_size`` episodes of one task. The same request gives the same samples from the same weights."""

    group_id: int  # position in the task stream
    task: Task
    group_size: int
    sampling: SamplingConfig
    seed: int
    variant: str = ""  # which environment, where the runner's factory makes several


@dataclass
class Turn:
    """One step of an episode as the learner sees it (ids), with the environment's record of the same step."""

    prompt_ids: list[int]
    output_ids: list[int]
    logprobs: list[float]
    policy_version: int
    finish_reason: str
    record: StepRecord
    cached_tokens: int = 0
    seconds: float = 0.0  # wall clock, from the prompt to the end of the environment's step


@dataclass
class Failure:
    """Why an episode ended without a result, and at which boundary."""

    boundary: Boundary
    message: str


@dataclass
class Trajectory:
    """One episode: its turns, terminal reward, answers and metrics, or its failure."""

    task_id: str
    index: int  # 0..G-1 within its group
    turns: list[Turn]
    reward: float = 0.0
    answers: list[AnswerRecord] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    failure: Failure | None = None
    seconds: float = 0.0


@dataclass
class Group:
    """G episodes of the same task; advantages compare within it."""

    group_id: int  # position in the task stream
    task_id: str
    trajectories: list[Trajectory]
