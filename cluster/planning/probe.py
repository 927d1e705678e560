"""A plan for this machine's CPUs: the recipe's own engines, runners and learner, timed on a few tasks.

A CPU's rates depend on what else shares its cores and caches, so they are measured, not looked up. Sampling is
``fixed + per_episode * episodes``, from two sizes; learning follows the number of tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from cluster.config import RunConfig
from cluster.planning.roofline import Phases
from cluster.rollouts import RolloutSide, launch, requests_for, start_runners, stream_of
from cluster.session import ray_session
from learner.advantages import sequences_from_groups
from learner.group import LearnerGroup
from learner.types import TrainSequence
from learner.weight_sync import WeightSync
from rollout.types import Group

Result = TypeVar("Result")
UPDATES = 3  # timed; the middle one counts, since other work on the machine can double a single one


@dataclass(frozen=True)
class Timing:
    """Seconds that a number of units (episodes, tokens) took."""

    units: float
    seconds: float


@dataclass(frozen=True)
class Probe:
    """What was measured, and what it says of a whole iteration."""

    few: Timing  # episodes
    more: Timing
    learn: Timing  # tokens
    tokens_per_episode: float
    sync: float

    def phases(self, episodes: int) -> Phases:
        """Seconds of an iteration of so many episodes."""
        per_episode = max(0.0, (self.more.seconds - self.few.seconds) / (self.more.units - self.few.units))
        rollout = self.few.seconds + per_episode * (episodes - self.few.units)
        learn = episodes * self.tokens_per_episode * self.learn.seconds / self.learn.units
        return Phases(rollout, learn, self.sync)


def probe(config: RunConfig) -> Probe:
    """Start the recipe's parts, play a quarter and a half of a batch, learn from the latter thrice, end everything."""
    with ray_session(config.ray):
        pool = launch(config, with_learner=True)
        learner = LearnerGroup(config.learner, config.model, seed=config.seed, total_steps=config.loop.iterations)
        side = start_runners(config, pool)
        try:
            return _measure(config, side, learner, WeightSync(learner, pool))
        finally:
            side.stop()
            learner.shutdown()


def _measure(config: RunConfig, side: RolloutSide, learner: LearnerGroup, sync: WeightSync) -> Probe:
    tasks, size = config.rollout.tasks_per_batch, config.rollout.group_size
    quarter, half = max(1, tasks // 4), max(2, tasks // 2)
    _play(config, side, 0, 1)  # the first requests also warm caches and threads up
    few, _ = _timed(lambda: _play(config, side, 1, quarter))
    more, groups = _timed(lambda: _play(config, side, 1 + quarter, half))
    sequences = sequences_from_groups(groups, config.learner.grpo)
    learner.update(sequences)
    learned = median(_timed(lambda: learner.update(sequences))[0] for _ in range(UPDATES))
    sync.push(1)
    synced, _ = _timed(lambda: sync.push(2))
    tokens = _tokens(sequences)
    return Probe(
        Timing(quarter * size, few), Timing(half * size, more), Timing(tokens, learned),
        tokens / (half * size), synced,
    )  # fmt: skip


def _play(config: RunConfig, side: RolloutSide, start: int, count: int) -> list[Group]:
    positions = range(start, start + count)
    rollout = config.rollout
    requests = requests_for(config, stream_of(config), positions, rollout.group_size, rollout.sampling)
    return list(side.collector.run(requests))


def _tokens(sequences: list[TrainSequence]) -> int:
    return sum(map(len, sequences))


def _timed(work: Callable[[], Result]) -> tuple[float, Result]:
    start = time.monotonic()
    result = work()
    return time.monotonic() - start, result
