"""Prompt tokens that the engine really computes per episode, with what a group shares first and with the chunk last.

Chunks of 512 tokens stand for the paper's 4,096: scratchpad, entries and output are scaled down alike. Then group
affinity on and off with two engines.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.engines import Scattered, engines, play, requests, tiny
from benchmarks.results import Ratio, keep
from cluster.config import RunConfig
from rollout.pool import EnginePool
from rollout.types import Generator

TASKS = 2
SCALED = (
    "env.registry.people=40", "env.registry.companies=12", "env.chunk_tokens=512", "env.max_reads=1",
    "rollout.engine.max_model_len=768", "rollout.sampling.max_new_tokens=32",
)  # fmt: skip


def computed(
    config: RunConfig, pool: EnginePool, group: int, generator: Callable[[EnginePool], Generator] = lambda pool: pool
) -> tuple[float, float]:
    """Prompt tokens computed per episode, and seconds, from an empty cache."""
    pool.update_weights(config.model, 0)  # empties the prefix cache
    groups, before, started = requests(config, TASKS, group), pool.metrics(), time.perf_counter()
    play(config, generator(pool), groups)
    seconds, after = time.perf_counter() - started, pool.metrics()
    grown = {key: after[key] - before[key] for key in ("prompt_tokens", "cached_tokens")}
    return (grown["prompt_tokens"] - grown["cached_tokens"]) / (TASKS * group), seconds


def orders() -> list[Ratio]:
    """Shared-first against chunk-last, at two sizes of group."""
    first, last = tiny(*SCALED), tiny(*SCALED, "env.prompt_order=chunk-last")
    ratios = []
    with engines(first) as pool:
        play(first, pool, requests(first, 1, 2))  # warm
        for group in (8, 16):
            (ours, quick), (baseline, slow) = computed(first, pool, group), computed(last, pool, group)
            ratios.append(
                Ratio(
                    f"prefix cache: shared-first against chunk-last, group {group}", f"{ours:.0f} tokens per episode",
                    f"{baseline:.0f} tokens per episode", baseline / ours, 3.0,
                    "env.prompt_order: chunk-last, the order of the paper's released prompt",
                    f"wall time {quick:.1f} s against {slow:.1f} s",
                )
            )  # fmt: skip
    return ratios


def affinity() -> Ratio:
    """A group's requests to one engine against to all in turn."""
    config = tiny(*SCALED, "rollout.engine.count=2", "rollout.engine.num_cpus=0.5")
    with engines(config) as pool:
        play(config, pool, requests(config, 1, 2))
        (ours, quick), (baseline, slow) = computed(config, pool, 8), computed(config, pool, 8, Scattered)
    return Ratio(
        "prefix cache: group affinity on against off, two engines, group 8", f"{ours:.0f} tokens per episode",
        f"{baseline:.0f} tokens per episode", baseline / ours, None, "requests to the engines in turn",
        f"wall time {quick:.1f} s against {slow:.1f} s",
    )  # fmt: skip


def main() -> None:
    """Measure and keep."""
    started = time.monotonic()
    keep("prefix_cache", [*orders(), affinity()], started)


if __name__ == "__main__":
    main()
