"""What one driver and its pool cost per episode as runners are added: a stand-in engine answers after realistic delays.

    python benchmarks/scaling.py --runners 1 2 4 8 16

Everything but the engine is real: RLlib's runner group, collector, environments, memories, Ray between them.
Printed per number of runners: episodes per second; CPU time of the driver (this process) and bytes per episode.
"""

from __future__ import annotations

import argparse
import asyncio
import pickle
import random
import time
from collections.abc import Sequence
from pathlib import Path

import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from cluster.recipes import load_recipe
from cluster.rollouts import SpreadRunners, requests_for, stream_of
from rollout.collector import GroupCollector
from rollout.config import SamplingConfig
from rollout.runner import MemoryEnvRunner
from rollout.types import Completion, Group

ROOT = Path(__file__).parents[1]
SECONDS_PER_TOKEN = 0.01
EPISODES_PER_RUNNER = 16


class StandIn:
    """Answers as an engine under load does: later for longer outputs, each in its own time. Its text says nothing."""

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None = None
    ) -> Completion:
        draw = random.Random(seed)
        length = draw.randint(10, 60)
        await asyncio.sleep(length * SECONDS_PER_TOKEN)
        ids = [draw.randrange(6, 200) for _ in range(length)]
        return Completion(ids, [-1.0] * length, 0, "stop")


def measure(runners: int, rounds: int) -> None:
    """Play ``rounds`` times as many episodes as there are places, and print what that took."""
    config = load_recipe(ROOT / "recipes" / "tiny.yaml", [
        f"rollout.runners={runners}", f"rollout.episodes_per_runner={EPISODES_PER_RUNNER}", "rollout.group_size=8",
        f"model={ROOT / 'models' / 'tiny-policy'}", "rollout.runner_cpus=0.001",
    ])  # fmt: skip
    spec = {
        "env": config.env.model_dump(), "rollout": config.rollout.model_dump(), "tokenizer": config.model,
        "pool": StandIn(),
    }  # fmt: skip
    rllib = AlgorithmConfig().environment(env_config=spec)
    rllib.env_runners(
        env_runner_cls=MemoryEnvRunner, num_env_runners=runners, num_cpus_per_env_runner=0.001,
        create_local_env_runner=False, validate_env_runners_after_construction=False,
    )  # fmt: skip
    rllib.freeze()
    group = SpreadRunners(config=rllib, local_env_runner=False)
    group.foreach_env_runner("assert_healthy", local_env_runner=False, timeout_seconds=600)
    collector, stream = GroupCollector(group, config.rollout), stream_of(config)
    count = runners * EPISODES_PER_RUNNER * rounds // config.rollout.group_size
    requests = requests_for(config, stream, range(count), config.rollout.group_size, config.rollout.sampling)
    cpu, start = time.process_time(), time.monotonic()
    groups = list(collector.run(requests))
    cpu, seconds = time.process_time() - cpu, time.monotonic() - start
    _print(runners, groups, seconds, cpu)
    group.stop()


def _print(runners: int, groups: list[Group], seconds: float, cpu: float) -> None:
    episodes = sum(len(group.trajectories) for group in groups)
    failed = sum(trajectory.failure is not None for group in groups for trajectory in group.trajectories)
    size = sum(len(pickle.dumps(group)) for group in groups) / episodes
    print(
        f"{runners:>4} runners: {episodes:>6} episodes ({failed} failed) in {seconds:6.1f} s, "
        f"{episodes / seconds:6.1f}/s, "
        f"driver {1000 * cpu / episodes:6.2f} ms CPU and {size / 1024:6.1f} KiB per episode; "
        f"the driver alone sustains {episodes / cpu:7.0f}/s",
        flush=True,
    )


def main() -> None:
    """Measure each number of runners in turn, on one Ray."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runners", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=2, help="episodes per place")
    arguments = parser.parse_args()
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}},
    )  # fmt: skip
    for runners in arguments.runners:
        measure(runners, arguments.rounds)


if __name__ == "__main__":
    main()
