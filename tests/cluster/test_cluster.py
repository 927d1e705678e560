"""A cluster of four raylets: a run is submitted as a job, spreads over them, and survives the loss of a node."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster.conftest import ROOT, atommem, command, environment, on_request
from tests.cluster.nodes import Nodes, processes_on, raylets
from tests.cluster.test_recovery import ITERATIONS, TASKS, settings
from tests.cluster.test_training import rows

pytestmark = [pytest.mark.stack, on_request]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with raylets(4, cpus=1) as made:
        yield made


def actors(raylet: Any, title: str) -> list[psutil.Process]:
    """The actors of one kind on one raylet."""
    return [process for process, words in processes_on(raylet) if title in words]


def test_a_submitted_run_uses_several_nodes_and_outlives_one(nodes: Nodes, tmp_path: Path) -> None:
    run = tmp_path / "run"
    places = ("rollout.runners=2", "rollout.runner_cpus=0.2", "learner.num_cpus=0.6")  # one engine or learner a node
    submit = ["submit", "recipes/tiny.yaml", "--address", nodes.dashboard]
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command(*submit, "--follow", *settings(f"run_dir={run}", *places)), cwd=ROOT, env=environment(),
            stdout=output, stderr=output,
        )  # fmt: skip
    try:
        while len(rows(run)) < 3:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        workers = nodes.cluster.list_all_nodes()[1:]
        assert sum(bool(actors(node, "LearnerWorker") or actors(node, "PolicyEngine")) for node in workers) == 3
        (with_engine,) = [node for node in workers if actors(node, "PolicyEngine")]
        nodes.cluster.remove_node(with_engine, allow_graceful=False)  # at once: on a quick machine little is left
        assert "already running: job tiny" in atommem(*submit, cwd=ROOT).stdout
        process.wait(timeout=800)
    finally:
        process.kill()
    assert process.returncode == 0, log.read_text()
    table = rows(run)
    assert [row["step"] for row in table] == list(range(1, ITERATIONS + 1)), log.read_text()
    assert [row["position"] for row in table] == [TASKS * row["step"] for row in table]
    assert table[-1]["restarts/engines"] >= 1 and max(row["mismatch/mean_abs"] for row in table) < 1e-3
