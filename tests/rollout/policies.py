"""Small in-process generators, environments and tokenizers for component tests: no model, no Ray."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from env.memory_env import EpisodeResult
from env.types import AnswerRecord, Message, Question, StepRecord, Task
from rollout.config import SamplingConfig
from rollout.types import Completion, Group, GroupRequest, Trajectory, Turn


class RandomPolicy:
    """Answers with 1 to 4 ids drawn from the request's seed; counts what runs at the same time."""

    def __init__(self, delay_s: Callable[[int], float] = lambda affinity: 0.0, version: int = 0) -> None:
        self.delay_s, self.version = delay_s, version
        self.running = self.most_running = 0

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None = None
    ) -> Completion:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(self.delay_s(affinity))
        self.running -= 1
        draw = random.Random(seed)
        ids = [draw.randrange(10) for _ in range(draw.randint(1, 4))]
        return Completion(ids, [-0.5] * len(ids), self.version, "stop")


class DigitTokenizer:
    """Text is digits; an id is a digit."""

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(str(token) for token in ids)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        return [ord(letter) % 10 for message in messages for letter in message["content"]]


class CountingEnv:
    """Runs for as many steps as the task has units, and rewards with the share of even digits said."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.task: Task | None = None

    async def reset(self, task: Task) -> list[Message]:
        self.task = task
        return [{"role": "user", "content": task.units[0]}]

    async def step(
        self, text: str, tokens: int = 0
    ) -> tuple[list[Message] | None, float, bool, bool, StepRecord]:
        assert self.task is not None
        await asyncio.sleep(0)
        assert tokens == len(text)
        position = len(self.texts)
        self.texts.append(text)
        record = StepRecord("chunk", position, self.task.units[position], None, [], "", text)
        if len(self.texts) == len(self.task.units):
            return None, self._reward(), True, False, record
        unit = self.task.units[len(self.texts)]
        return [{"role": "user", "content": unit}], 0.0, False, False, record

    def _reward(self) -> float:
        said = "".join(self.texts)
        return sum(int(digit) % 2 == 0 for digit in said) / len(said)

    def result(self) -> EpisodeResult:
        assert self.task is not None
        question = self.task.questions[0]
        answers = [AnswerRecord(question.text, question.kind, question.answers, "".join(self.texts))]
        return EpisodeResult(self._reward(), answers, {"steps": float(len(self.texts))})


def make_task(name: str = "t", units: int = 3) -> Task:
    """A task of ``units`` short units and one question."""
    return Task(name, tuple(f"{name} unit {i}" for i in range(units)), (Question("which?", ("it",)),))


def make_request(group_id: int = 0, size: int = 2, units: int = 3, seed: int = 7) -> GroupRequest:
    """A request for ``size`` episodes of a task of its own."""
    return GroupRequest(group_id, make_task(f"t{group_id}", units), size, SamplingConfig(), seed)


def make_group(rewards: Sequence[float], group_id: int = 0, versions: Sequence[int] = ()) -> Group:
    """A finished group with given rewards; every trajectory has one turn per version in ``versions``."""
    record = StepRecord("chunk", 0, "", None, [], "", "")
    turns = [Turn([1], [2], [-0.1], version, "stop", record) for version in versions]
    trajectories = [Trajectory("t", index, list(turns), reward) for index, reward in enumerate(rewards)]
    return Group(group_id, "t", trajectories)
