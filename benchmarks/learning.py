"""Equal learning in less time: the tiny recipe trained with everything on, and with everything off that can be.

Off: episodes in lockstep, an embedding request per text, padded batches in the learner. The prompt keeps its order, for
the starting policy knows no other; what that saves is in `benchmarks.iteration`. Same tasks, seeds and starting policy:
rewards over iterations should be the same, over seconds they should not.
"""

from __future__ import annotations

import time
from statistics import fmean

from benchmarks.embedding import OneByOne
from benchmarks.engines import Lockstep, engines, play, tiny
from benchmarks.results import Ratio, keep
from cluster.config import RunConfig
from cluster.rollouts import requests_for, stream_of
from env.embedding import BatchedEmbedder, make_embedder
from learner.advantages import sequences_from_groups
from learner.group import LearnerGroup
from learner.weight_sync import WeightSync
from rollout.pool import EnginePool
from rollout.types import Generator, Group, GroupRequest, Trajectory

ITERATIONS = 25
LAST = 5  # iterations whose mean reward is compared


class Side:
    """One way of training; `rewards` are means per iteration, `seconds` count from the first iteration on."""

    def __init__(self, config: RunConfig, pool: EnginePool, on: bool) -> None:
        self._config, self._pool, self._on = config, pool, on
        self._stream, self._embedder = stream_of(config), make_embedder(config.env.embedder)
        self.rewards: list[float] = []
        self.seconds: list[float] = []

    def train(self) -> None:
        """From the starting policy, `ITERATIONS` updates."""
        run = self._config
        learner = LearnerGroup(run.learner, run.model, seed=run.seed, total_steps=run.loop.iterations)
        sync = WeightSync(learner, self._pool)
        sync.push(0)
        started = time.perf_counter()
        for iteration in range(ITERATIONS):
            groups = self._sample(iteration)
            learner.update(sequences_from_groups(groups, run.learner.grpo))
            sync.push(iteration + 1)
            self.rewards.append(fmean(one.reward for group in groups for one in group.trajectories))
            self.seconds.append(time.perf_counter() - started)
        learner.shutdown()

    def _sample(self, iteration: int) -> list[Group]:
        rollout = self._config.rollout
        positions = range(rollout.tasks_per_batch * iteration, rollout.tasks_per_batch * (iteration + 1))
        requests = requests_for(self._config, self._stream, positions, rollout.group_size, rollout.sampling)
        episodes = rollout.tasks_per_batch * rollout.group_size
        engine: Generator = self._pool if self._on else Lockstep(self._pool, episodes)
        embedder = BatchedEmbedder(self._embedder) if self._on else OneByOne(self._embedder)
        return grouped(requests, play(self._config, engine, requests, embedder))


def grouped(requests: list[GroupRequest], trajectories: list[Trajectory]) -> list[Group]:
    """The trajectories, which come group after group, by their group."""
    parts = iter(trajectories)
    return [
        Group(request.group_id, request.task.task_id, [next(parts) for _ in range(request.group_size)])
        for request in requests
    ]


def compared(on: Side, off: Side) -> Ratio:
    """Seconds of both, and how far apart their rewards are."""
    late = [fmean(side.rewards[-LAST:]) for side in (on, off)]
    apart = max(abs(a - b) for a, b in zip(on.rewards, off.rewards, strict=True))
    return Ratio(
        f"learning: {ITERATIONS} iterations of the tiny recipe, on against off", f"{on.seconds[-1]:.0f} s",
        f"{off.seconds[-1]:.0f} s", off.seconds[-1] / on.seconds[-1], None,
        "own lockstep driver, one embedding request per text, padded batches; same tasks and seeds",
        f"mean reward of the last {LAST}: {late[0]:.3f} and {late[1]:.3f}; iterations differ by at most {apart:.3f}",
    )  # fmt: skip


def main() -> None:
    """Measure and keep."""
    started = time.monotonic()
    sides: dict[str, Side] = {}
    for name, on in (("on", True), ("off", False)):
        config = tiny(f"learner.share_prefixes={on}", f"loop.iterations={ITERATIONS}")
        with engines(config) as pool:
            sides[name] = Side(config, pool, on)
            sides[name].train()
    series = {name: {"rewards": side.rewards, "seconds": side.seconds} for name, side in sides.items()}
    keep("learning", [compared(sides["on"], sides["off"])], started, learning=series)


if __name__ == "__main__":
    main()
