"""A run among random deaths: every 20 to 40 s an actor or a whole node (but the head) is killed.

    make chaos                                        # or: python -m benchmarks.chaos --seconds 1200 --seed 1

Runs the tiny recipe as a job on four raylets, kills by a seeded plan, gives lost nodes back, and checks at the end what
a run promises: it ends, no gap and no duplicate in the metrics, every task trained once, no process left over.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil

from cluster.recipes import load_recipe
from cluster.rollouts import stream_of
from tests.cluster.nodes import Nodes, processes_on, raylets, shared_memory

ROOT = Path(__file__).parents[1]
TITLES = ("PolicyEngine", "EngineCore", "LearnerWorker", "MemoryEnvRunner")
CPUS = 1


class Reaper:
    """Kills one thing at a time, by the draws of a seed."""

    def __init__(self, nodes: Nodes, seed: int) -> None:
        self._nodes, self._draw = nodes, random.Random(seed)
        self.killed: list[str] = []

    def pause(self) -> float:
        """Seconds to the next kill."""
        return self._draw.uniform(20, 40)

    def strike(self) -> None:
        """Kill an actor, or in one of five cases a node, which another takes the place of."""
        workers = self._nodes.cluster.list_all_nodes()[1:]
        if self._draw.random() < 0.2:
            self._nodes.cluster.remove_node(self._draw.choice(workers), allow_graceful=False)
            self._nodes.add()
            self.killed.append("node")
            return
        actors = sorted((title, process.pid) for node in workers for title, process in _actors(node))
        if actors:
            title, pid = self._draw.choice(actors)
            psutil.Process(pid).kill()
            self.killed.append(title)

    def told(self) -> str:
        """What was killed how often."""
        return ", ".join(f"{count} {title}" for title, count in Counter(self.killed).most_common())


def _left_over(nodes: Nodes, wait_s: float = 30) -> list[str]:
    """Actors that are still there some time after the run."""
    deadline = time.monotonic() + wait_s
    while left := [title for node in nodes.cluster.list_all_nodes() for title, _ in _actors(node)]:
        if time.monotonic() > deadline:
            break
        time.sleep(1)
    return left


def _actors(node: Any) -> list[tuple[str, psutil.Process]]:
    on_node = processes_on(node)
    return [(name, process) for process, title in on_node for name in TITLES if name in title and "IDLE" not in title]


def main() -> None:
    """Run, kill, check; exits with 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1200, help="how long things are killed; then the run may end")
    parser.add_argument("--iterations", type=int, default=150, help="about 20 minutes of them on two free cores")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="atommem-chaos-") as place:
        run = Path(place) / "chaos"
        settings = [
            f"run_dir={run}", "name=chaos", f"loop.iterations={arguments.iterations}", "loop.checkpoint_every=1",
            "rollout.runners=2", "rollout.runner_cpus=0.2", "learner.num_cpus=0.6", "loop.save_trajectories=1000",
        ]  # fmt: skip
        before = shared_memory()
        with raylets(4, cpus=CPUS) as nodes:
            reaper = Reaper(nodes, arguments.seed)
            started, ended = time.monotonic(), _run(nodes, reaper, settings, arguments.seconds)
            print(f"{time.monotonic() - started:.0f} s, {len(reaper.killed)} killed: {reaper.told()}")
            broken = [] if ended else ["the run failed"]
            broken += [f"left over: {names}"] if (names := _left_over(nodes)) else []
        broken += _broken_promises(run, settings, arguments.iterations) if ended else []
        broken += [f"left in shared memory: {names}"] if (names := shared_memory() - before) else []
        print("\n".join(broken) or "every promise was kept")
        sys.exit(1 if broken else 0)


def _run(nodes: Nodes, reaper: Reaper, settings: list[str], seconds: float) -> bool:
    words = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "cluster.cli", "submit", "recipes/tiny.yaml", "--address", nodes.dashboard]
    process = subprocess.Popen([*command, "--follow", *words], cwd=ROOT)
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(reaper.pause())
        if process.poll() is None:
            reaper.strike()
    return process.wait() == 0


def _broken_promises(run: Path, settings: list[str], iterations: int) -> list[str]:
    config = load_recipe(ROOT / "recipes" / "tiny.yaml", [*settings, f"model={ROOT / 'models' / 'tiny-policy'}"])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    broken = []
    for evaluation in sorted((run / "evaluations").glob("*.json")):
        em = json.loads(evaluation.read_text())["summary"]["em"]
        print(f"held out, {evaluation.stem}: EM {em['mean']:.1%} [{em['low']:.1%}, {em['high']:.1%}]")
    if [row["step"] for row in rows] != list(range(1, iterations + 1)):
        broken.append(f"steps are {[row['step'] for row in rows]}")
    stream, per_batch = stream_of(config), config.rollout.tasks_per_batch
    for step in range(1, iterations + 1):
        lines = (run / "trajectories" / f"step_{step:06d}.jsonl").read_text().splitlines()
        trained = sorted(json.loads(line)["task_id"] for line in lines)
        expected = [stream.at(position).task_id for position in range(per_batch * (step - 1), per_batch * step)]
        if trained != sorted(expected * config.rollout.group_size):
            broken.append(f"iteration {step} trained other tasks than its own")
    late = [row["reward/mean"] for row in rows[-10:]]
    print(f"reward of the last ten iterations {fmean(late):.3f}")
    return broken


if __name__ == "__main__":
    main()
