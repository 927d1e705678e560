"""From `atommem train` to the first token: how long each stage takes, and what of it waits for what."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.engines import tiny
from benchmarks.results import Ratio, keep

_SECONDS: dict[str, float] = {}


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Measures the block."""
    started = time.perf_counter()
    yield
    _SECONDS[name] = time.perf_counter() - started


def import_seconds(module: str) -> float:
    """In a fresh interpreter, less the interpreter's own start."""
    seconds = []
    for statement in ("pass", f"import {module}"):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        seconds.append(time.perf_counter() - started)
    return seconds[1] - seconds[0]


def main() -> None:
    """Measure and keep."""
    began = time.monotonic()
    config = tiny()
    _SECONDS["import the command"] = import_seconds("cluster.cli")
    _SECONDS["import the loop (ray, torch, transformers)"] = import_seconds("cluster.algorithm")
    from cluster.rollouts import launch, start_runners
    from cluster.session import ray_session
    from learner.group import LearnerGroup

    with stage("start Ray"):
        session = ray_session(config.ray)
        session.__enter__()
    try:
        with stage("engine, learner and runners, side by side"):
            pool = launch(config, with_learner=True)
            learner = LearnerGroup(config.learner, config.model, seed=config.seed, total_steps=1)
            side = start_runners(config, pool)
        with stage("first token"):
            asyncio.run(pool.generate([5, 6, 7], config.rollout.sampling, 0, 1))
        learner.shutdown()
        side.stop()
    finally:
        session.__exit__(None, None, None)
    stages = [name for name in _SECONDS if name != "import the command"]
    ratios = [
        Ratio(f"start-up: {name}", f"{seconds:.1f} s", "-", 1.0, None, "told only")
        for name, seconds in _SECONDS.items()
    ]
    total = sum(_SECONDS[name] for name in stages)
    ratios.append(Ratio("start-up: to the first token", f"{total:.1f} s", "-", 1.0, None, "told only"))
    keep("startup", ratios, began, seconds=_SECONDS)


if __name__ == "__main__":
    main()
