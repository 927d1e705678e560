"""What one driver and its pool cost per episode as runners are added: a stand-in engine answers after realistic delays.

    python -m benchmarks.scaling --runners 1 2 4 8 --simulated 1 16 256

With real runners everything but the engine is real: RLlib's runner group, collector, environments, memories, Ray
between them. One machine does not hold hundreds of them, so for more the runners are simulated
(`benchmarks.simulated_runners`): the collector is real, and gets the recorded groups of the real ones. Printed per
number of runners: episodes per second; CPU time of the driver (this process) and bytes per episode.
"""

from __future__ import annotations

import argparse
import asyncio
import pickle
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from benchmarks.simulated_runners import SimulatedRunners
from cluster.config import RunConfig
from cluster.recipes import load_recipe
from cluster.rollouts import SpreadRunners, requests_for, stream_of
from rollout.collector import GroupCollector
from rollout.config import SamplingConfig
from rollout.runner import MemoryEnvRunner
from rollout.types import Completion, Group

ROOT = Path(__file__).parents[1]
SECONDS_PER_TOKEN = 0.01
EPISODES_PER_RUNNER = 16
GROUP_SECONDS = (2.0, 8.0)  # of a simulated group


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


def config_of(runners: int) -> RunConfig:
    """The tiny recipe with so many runners, which take no room."""
    return load_recipe(ROOT / "recipes" / "tiny.yaml", [
        f"rollout.runners={runners}", f"rollout.episodes_per_runner={EPISODES_PER_RUNNER}", "rollout.group_size=8",
        f"model={ROOT / 'models' / 'tiny-policy'}", "rollout.runner_cpus=0.001",
    ])  # fmt: skip


def real_runners(config: RunConfig) -> SpreadRunners:
    """RLlib's group of MemoryEnvRunners whose policy is the stand-in."""
    spec = {
        "env": config.env.model_dump(), "rollout": config.rollout.model_dump(), "tokenizer": config.model,
        "pool": StandIn(),
    }  # fmt: skip
    rllib = AlgorithmConfig().environment(env_config=spec)
    rllib.env_runners(
        env_runner_cls=MemoryEnvRunner, num_env_runners=config.rollout.runners, num_cpus_per_env_runner=0.001,
        create_local_env_runner=False, validate_env_runners_after_construction=False,
    )  # fmt: skip
    rllib.freeze()
    group = SpreadRunners(config=rllib, local_env_runner=False)
    group.foreach_env_runner("assert_healthy", local_env_runner=False, timeout_seconds=600)
    return group


def measure(what: str, group: Any, config: RunConfig, rounds: int) -> list[Group]:
    """Play ``rounds`` times as many episodes as there are places; print and return what came back."""
    runners, size = config.rollout.runners, config.rollout.group_size
    collector, stream = GroupCollector(group, config.rollout), stream_of(config)
    count = runners * EPISODES_PER_RUNNER * rounds // size
    requests = requests_for(config, stream, range(count), size, config.rollout.sampling)
    cpu, start = time.process_time(), time.monotonic()
    groups = list(collector.run(requests))
    cpu, seconds = time.process_time() - cpu, time.monotonic() - start
    episodes = sum(len(group.trajectories) for group in groups)
    failed = sum(trajectory.failure is not None for group in groups for trajectory in group.trajectories)
    size_kib = sum(len(pickle.dumps(group)) for group in groups) / episodes / 1024
    print(
        f"{runners:>4} {what} runners: {episodes:>6} episodes ({failed} failed) in {seconds:6.1f} s, "
        f"{episodes / seconds:6.1f}/s; driver {1000 * cpu / episodes:6.2f} ms CPU and {size_kib:5.1f} KiB per episode: "
        f"it alone sustains {episodes / cpu:6.0f}/s",
        flush=True,
    )
    return groups


def main() -> None:
    """Measure each number of runners in turn, on one Ray; then simulated ones that give back the same groups."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runners", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--simulated", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32, 64, 128, 256])
    parser.add_argument("--rounds", type=int, default=2, help="episodes per place")
    arguments = parser.parse_args()
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}},
    )  # fmt: skip
    for runners in arguments.runners:
        config = config_of(runners)
        group = real_runners(config)
        recorded = measure("real", group, config, arguments.rounds)
        group.stop()
    for runners in arguments.simulated:
        config = config_of(runners)
        measure("simulated", SimulatedRunners(runners, recorded, GROUP_SECONDS), config, arguments.rounds)


if __name__ == "__main__":
    main()
