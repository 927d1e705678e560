"""How long an iteration takes in synchronous and in asynchronous mode, when sampling and learning take equally long.

    python -m benchmarks.overlap --seconds 0.5

The loop is the real one (cluster/algorithm.py); engines and learner are stand-ins that wait. Printed: seconds per
iteration at rollout.max_staleness 0 and 1, their ratio, and the staleness of what was learned from.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cluster.algorithm import GRPO
from cluster.guards import SkippedUpdates
from cluster.loop import LoopState
from cluster.recipes import load_recipe
from cluster.rollouts import stream_of
from env.types import StepRecord
from learner.types import TrainSequence
from rollout.types import Group, GroupRequest, Trajectory, Turn

ROOT = Path(__file__).parents[1]


class StandIns:
    """Collector, learner and weight sync in one: each of the first two takes a fixed time."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self.version = seconds, 0

    def run(self, requests: Sequence[GroupRequest]) -> Iterator[Group]:
        version = self.version
        time.sleep(self._seconds)
        for request in requests:
            episodes = [_episode(index, version) for index in range(request.group_size)]
            yield Group(request.group_id, request.task.task_id, episodes)

    def update(self, sequences: Sequence[TrainSequence]) -> dict[str, float]:
        time.sleep(self._seconds)
        return {"updates/skipped": 0.0, "tokens": float(len(sequences))}

    def push(self, version: int) -> None:
        self.version = version


def _episode(index: int, version: int) -> Trajectory:
    turn = Turn([1], [2], [-0.1], version, "stop", StepRecord("chunk", 0, "", None, [], "", ""))
    return Trajectory("t", index, [turn], reward=float(index % 2))


def loop(seconds: float, max_staleness: int) -> tuple[Any, dict[str, float]]:
    """The loop over stand-ins, and the row that its iterations write into."""
    settings = [f"rollout.max_staleness={max_staleness}", "loop.iterations=1000", "env.registry.people=4"]
    run = load_recipe(ROOT / "recipes" / "tiny.yaml", settings)
    parts, row = StandIns(seconds), dict[str, float]()
    runners = SimpleNamespace(num_remote_env_runners=lambda: 1, num_remote_worker_restarts=lambda: 0)
    pool = SimpleNamespace(metrics=dict, handles=[])
    algo: Any = object.__new__(GRPO)
    algo.run_config, algo.loop, algo.stream = run, LoopState(), stream_of(run)
    algo.collector = algo.learner_group = algo.weight_sync = parts
    algo.rollout_side = SimpleNamespace(pool=pool, runners=runners, watch=SimpleNamespace(up=0, restarts=0))
    algo.env_runner_group = runners
    algo.skipped_updates, algo._background = SkippedUpdates(1), ThreadPoolExecutor(1)
    algo.metrics = SimpleNamespace(log_value=lambda key, value, reduce: row.__setitem__(key[1], value))
    return algo, row


def measure(seconds: float, max_staleness: int, iterations: int) -> tuple[float, float]:
    """Seconds per iteration after the first, and the largest staleness of the last one."""
    algo, row = loop(seconds, max_staleness)
    algo.training_step()
    start = time.monotonic()
    for _ in range(iterations):
        algo.training_step()
    took = (time.monotonic() - start) / iterations
    algo.settle()
    return took, row["staleness/max"]


def main() -> None:
    """Measure both modes, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="that sampling, and learning, take")
    parser.add_argument("--iterations", type=int, default=10)
    arguments = parser.parse_args()
    (together, old), (apart, _) = (measure(arguments.seconds, staleness, arguments.iterations) for staleness in (1, 0))
    print(f"synchronous {apart:.2f} s, asynchronous {together:.2f} s an iteration: ratio {together / apart:.2f}")
    print(f"staleness of what the asynchronous mode learned from: {old:.0f}")


if __name__ == "__main__":
    main()
