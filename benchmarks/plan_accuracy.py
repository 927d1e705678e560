"""How well `atommem plan --gpu cpu` foretells an iteration: the probe and real iterations, one after the other.

    python -m benchmarks.plan_accuracy --iterations 5
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

from cluster.algorithm import RESULTS, GRPOConfig
from cluster.config import RunConfig
from cluster.planning.probe import probe
from cluster.recipes import load_recipe
from cluster.session import ray_session

ROOT = Path(__file__).parents[1]
PHASES = ("rollout", "learn", "sync")


def iterate(config: RunConfig, iterations: int) -> dict[str, float]:
    """Mean seconds of each phase over real iterations; the first is left out: it warms up."""
    algo = GRPOConfig().run(config).build_algo()
    try:
        rows = [algo.train()[RESULTS] for _ in range(iterations + 1)][1:]
    finally:
        algo.stop()
    return {phase: fmean(row[f"time/{phase}"] for row in rows) for phase in PHASES}


def main() -> None:
    """Print foretold and measured seconds of each phase, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=5)
    arguments = parser.parse_args()
    config = load_recipe(ROOT / "recipes" / "tiny.yaml", [f"model={ROOT / 'models' / 'tiny-policy'}"])
    with ray_session(config.ray):
        foretold = probe(config).phases(config.rollout.tasks_per_batch * config.rollout.group_size)
        measured = iterate(config, arguments.iterations)
    for phase in PHASES:
        print(f"{phase}: foretold {getattr(foretold, phase):.2f} s, measured {measured[phase]:.2f} s")
    total = sum(measured.values())
    print(f"iteration: foretold {foretold.in_turn:.2f} s, measured {total:.2f} s, ratio {foretold.in_turn / total:.2f}")


if __name__ == "__main__":
    main()
