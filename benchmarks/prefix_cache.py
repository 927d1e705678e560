"""Prompt tokens that the engine really computes per episode, with what a group shares first and with the chunk last.

Chunks of 512 tokens stand for the paper's 4,096: scratchpad, entries and output are scaled down alike, and written by
`benchmarks.scribe`, so that both sides play the same episodes. Then group affinity on and off with two engines.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.engines import Scattered, engines, play, requests, tiny
from benchmarks.results import Ratio, keep
from benchmarks.scribe import SCALED, Scribe, untrained
from cluster.config import RunConfig
from env.tokenizer import ChatTokenizer
from rollout.pool import EnginePool
from rollout.types import Generator

TASKS = 2


def computed(
    config: RunConfig, pool: EnginePool, group: int, route: Callable[[EnginePool], Generator] = lambda pool: pool
) -> tuple[float, float]:
    """Prompt tokens computed per episode, and seconds, from an empty cache."""
    pool.update_weights(config.model, 0)  # empties the prefix cache
    groups, before, started = requests(config, TASKS, group), pool.metrics(), time.perf_counter()
    play(config, Scribe(route(pool), ChatTokenizer(config.model)), groups)
    seconds, after = time.perf_counter() - started, pool.metrics()
    grown = {key: after[key] - before[key] for key in ("prompt_tokens", "cached_tokens")}
    return (grown["prompt_tokens"] - grown["cached_tokens"]) / (TASKS * group), seconds


def orders(model: str) -> list[Ratio]:
    """Shared-first against chunk-last, at two sizes of group."""
    places = (f"model={model}", *SCALED)
    first, last = (tiny(*places, f"env.prompt_order={order}") for order in ("shared-first", "chunk-last"))
    ratios = []
    with engines(first) as pool:
        computed(first, pool, 2)  # warm
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


def affinity(model: str) -> Ratio:
    """A group's requests to one engine against to all in turn."""
    config = tiny(f"model={model}", *SCALED, "rollout.engine.count=2", "rollout.engine.num_cpus=0.5")
    with engines(config) as pool:
        computed(config, pool, 2)
        (ours, quick), (baseline, slow) = computed(config, pool, 8), computed(config, pool, 8, Scattered)
    return Ratio(
        "prefix cache: group affinity on against off, two engines, group 8", f"{ours:.0f} tokens per episode",
        f"{baseline:.0f} tokens per episode", baseline / ours, None, "requests to the engines in turn",
        f"wall time {quick:.1f} s against {slow:.1f} s",
    )  # fmt: skip


def main() -> None:
    """Measure and keep."""
    started = time.monotonic()
    with untrained() as model:
        keep("prefix_cache", [*orders(model), affinity(model)], started)


if __name__ == "__main__":
    main()
