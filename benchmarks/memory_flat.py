"""Resident memory of every process of a run over its iterations: does anything grow? Run by hand:

    python -m benchmarks.memory_flat --iterations 200          (about ten minutes on two free cores)

The tiny recipe with two tasks per iteration. After every iteration the memory of the driver and of all processes it has
started is read (the part that is not shared with others: Ray's object store is mapped into many). Printed: the memory
over time, and the slopes of lines through what comes after the first quarter, which warms up, and the second half.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).parents[1]
TITLES = ("PolicyEngine", "EngineCore", "LearnerWorker", "MemoryEnvRunner", "raylet", "gcs_server", "cluster.cli")


def title_of(process: psutil.Process) -> str | None:
    """The kind of a process that a run consists of."""
    words = " ".join(process.cmdline())
    return next((f"{title} {process.pid}" for title in TITLES if title in words), None)


def private_mb(process: psutil.Process) -> float:
    """Resident memory that is the process's own, in MB."""
    info = process.memory_info()
    return (info.rss - info.shared) / 1e6


def sample(driver: psutil.Process) -> dict[str, float]:
    """Every process now."""
    found = {}
    for process in [driver, *driver.children(recursive=True)]:
        try:
            if (title := title_of(process)) is not None:
                found[title] = private_mb(process)
        except psutil.NoSuchProcess:
            continue
    return found


def watch(run: Path, driver: subprocess.Popen[bytes], iterations: int) -> dict[str, dict[int, float]]:
    """Memory by process and iteration."""
    series: dict[str, dict[int, float]] = defaultdict(dict)
    metrics, seen = run / "metrics.jsonl", 0
    while driver.poll() is None and seen < iterations:
        time.sleep(0.2)
        done = len(metrics.read_text().splitlines()) if metrics.exists() else 0
        if done > seen:
            seen = done
            for title, value in sample(psutil.Process(driver.pid)).items():
                series[title][seen] = value
    return series


def main() -> None:
    """Run, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="further settings of the run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        run = Path(place) / "run"
        settings = [f"run_dir={run}", f"loop.iterations={options.iterations}", "rollout.tasks_per_batch=2"]
        settings += ["loop.eval_episodes=0", "loop.checkpoint_every=50", *options.set]
        command = [sys.executable, "-m", "cluster.cli", "train", "recipes/tiny.yaml"]
        driver = subprocess.Popen(
            command + [word for setting in settings for word in ("--set", setting)], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        series = watch(run, driver, options.iterations)
        driver.wait()
    for title, values in sorted(series.items()):
        slopes = [slope(values, options.iterations * quarter // 4) for quarter in (1, 2)]
        if None not in slopes:
            told = " to ".join(f"{value:.0f}" for value in list(values.values())[:: max(1, len(values) // 4)])
            print(f"{title}: {told} MB; per 10 iterations {slopes[0]:+.2f} MB, in the second half {slopes[1]:+.2f} MB")


def slope(values: dict[int, float], since: int) -> float | None:
    """MB per ten iterations of a line through what was read after an iteration; None for too few readings."""
    late = [step for step in values if step > since]
    return np.polyfit(late, [values[step] for step in late], 1)[0] * 10 if len(late) > 2 else None


if __name__ == "__main__":
    main()
