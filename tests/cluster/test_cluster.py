"""A cluster of four raylets: a run is submitted as a job, spreads over them, and survives the loss of a node."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster.conftest import ROOT, TASKS_PER_BATCH, atommem, command, environment
from tests.cluster.nodes import Nodes, raylets
from tests.cluster.test_training import rows

pytestmark = pytest.mark.stack

ITERATIONS = 6
JOB = f"""
entrypoint: python -m cluster.cli train {{recipe}} --resume {{overrides}}
runtime_env: {{working_dir: ., excludes: [survived, run, tune, turns.parquet], env_vars: {{PYTHONPATH: {ROOT}}}}}
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with raylets(4, cpus=1) as made:
        yield made


def actors(raylet: Any, title: str) -> list[psutil.Process]:
    """The actors of one kind on one raylet."""
    raylet_pid = raylet.all_processes["raylet"][0].process.pid
    found = []
    for process in psutil.Process(raylet_pid).children():
        try:
            if title in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def test_a_submitted_run_uses_several_nodes_and_outlives_one(nodes: Nodes, workshop: Path) -> None:
    run = workshop / "submitted"
    (workshop / "job.yaml").write_text(JOB, encoding="utf-8")
    settings = [
        f"run_dir={run}", f"loop.iterations={ITERATIONS}", "loop.eval_episodes=0", "loop.checkpoint_every=2",
        "rollout.runners=2", "rollout.engine.num_cpus=0.8", "learner.num_cpus=0.6", "rollout.runner_cpus=0.2",
    ]  # fmt: skip
    arguments = [word for setting in settings for word in ("--set", setting)]
    submit = command("submit", "small.yaml", "--address", nodes.dashboard, "--job", "job.yaml", "--follow", *arguments)
    process = subprocess.Popen(
        submit, cwd=workshop, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip
    deadline = time.monotonic() + 500
    while len(rows(run)) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no third iteration"
        time.sleep(0.1)
    workers = nodes.cluster.list_all_nodes()[1:]
    busy = [node for node in workers if actors(node, "LearnerWorker") or actors(node, "PolicyEngine")]
    assert len(busy) >= 2, "three actors of more than half a CPU find no room on one CPU"
    again = atommem("submit", "small.yaml", "--address", nodes.dashboard, "--job", "job.yaml", cwd=workshop)
    assert "already running: job small" in again.stdout
    lost = next(node for node in busy if actors(node, "PolicyEngine"))
    nodes.cluster.remove_node(lost, allow_graceful=False)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    table = rows(run)
    assert [row["step"] for row in table] == list(range(1, ITERATIONS + 1)), output
    assert [row["position"] for row in table] == [TASKS_PER_BATCH * row["step"] for row in table]
    assert table[-1]["restarts/engines"] >= 1 and max(row["mismatch/mean_abs"] for row in table) < 1e-3
