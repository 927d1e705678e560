"""What every process of a run is doing: its Python stack, taken from outside by py-spy, on all nodes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

TITLES = ("PolicyEngine", "LearnerWorker", "MemoryEnvRunner", "VLLM::")
TIMEOUT_S = 30.0


def dump_stacks(folder: Path) -> Path:
    """Write the stacks of this process, and of all engines, learners and runners of the cluster, into a new file."""
    texts = [stack_of(os.getpid(), "driver")]
    alive = [node for node in ray.nodes() if node["Alive"]]
    asked = [_on(node["NodeID"]).remote() for node in alive]
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=TIMEOUT_S)
    for node, answer in zip(alive, asked, strict=True):
        texts.append(f"==== node {node['NodeManagerAddress']}")
        texts += _answer(answer) if answer in answered else [f"no answer for {TIMEOUT_S:g} s"]
    path = folder / f"stacks-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def _answer(answer: ray.ObjectRef) -> list[str]:
    try:
        return ray.get(answer)
    except RayError as error:  # the node has just gone
        return [f"{type(error).__name__}: {error}"]


def _on(node_id: str) -> ray.remote_function.RemoteFunction:
    place = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=place)(stacks_here)


def stacks_here() -> list[str]:
    """Stacks of this node's engines, learners and runners."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        title = " ".join(process.info["cmdline"] or [])
        if any(name in title for name in TITLES) and "py-spy" not in title:
            found.append(stack_of(process.info["pid"], title))
    return found


def stack_of(pid: int, title: str) -> str:
    """One process's stack, or why it could not be read (py-spy needs the right to trace processes)."""
    spy = shutil.which("py-spy") or str(Path(sys.executable).with_name("py-spy"))
    try:
        done = subprocess.run(
            [spy, "dump", "--pid", str(pid)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"==== {title} (pid {pid}): {error}"
    return f"==== {title} (pid {pid})\n{done.stdout or done.stderr}"
