"""Whole iterations of GRPO: where each second goes, with and without what this project adds.

The recipe is the tiny one with long chunks, so that prompts and outputs are in the proportion of the paper's. Switched
off are shared-first prompts and shared-prefix training, which are configuration values; both runs play the same tasks
from the same policy.
"""

from __future__ import annotations

import time

from benchmarks.engines import tiny
from benchmarks.prefix_cache import SCALED
from benchmarks.results import Ratio, keep
from cluster.config import RunConfig
from cluster.session import ray_session

ITERATIONS = 3
PHASES = ("rollout", "learn", "sync")
OFF = ("env.prompt_order=chunk-last", "learner.share_prefixes=false")


def run(config: RunConfig) -> list[dict[str, float]]:
    """The rows of the iterations after the first, which warms up."""
    from cluster.algorithm import RESULTS, GRPOConfig

    algo = GRPOConfig().run(config).build_algo()
    try:
        return [algo.train()[RESULTS] for _ in range(ITERATIONS)][1:]
    finally:
        algo.stop()


def mean(rows: list[dict[str, float]], key: str) -> float:
    """Over the iterations."""
    return sum(row[key] for row in rows) / len(rows)


def main() -> None:
    """Measure and keep."""
    started = time.monotonic()
    base = (*SCALED, f"loop.iterations={ITERATIONS}", "rollout.tasks_per_batch=2", "learner.micro_batch_tokens=8192")
    with ray_session(tiny().ray):
        on, off = run(tiny(*base)), run(tiny(*base, *OFF))
    seconds = {
        side: {phase: mean(rows, f"time/{phase}") for phase in PHASES} for side, rows in (("on", on), ("off", off))
    }
    total = {side: sum(parts.values()) for side, parts in seconds.items()}
    idle = {side: 1 - parts["rollout"] / total[side] for side, parts in seconds.items()}
    ratios = [
        Ratio(
            "iteration: seconds, shared-first prompts and shared prefixes on against off", f"{total['on']:.1f} s",
            f"{total['off']:.1f} s", total["off"] / total["on"], 3.0, "the same recipe with both values off",
            f"engine idle {idle['on']:.0%} of an iteration with them, {idle['off']:.0%} without",
        ),
        *(
            Ratio(
                f"iteration: {phase}", f"{seconds['on'][phase]:.2f} s", f"{seconds['off'][phase]:.2f} s",
                seconds["off"][phase] / seconds["on"][phase], None, "the same",
            )
            for phase in PHASES
        ),
    ]  # fmt: skip
    keep("iteration", ratios, started, seconds=seconds)


if __name__ == "__main__":
    main()
