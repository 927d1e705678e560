"""A Ray cluster of several raylets on this machine, with the dashboard that takes jobs."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
STORE = {"object_store_memory": 150_000_000}


@dataclass
class Nodes:
    """The cluster, and where its parts are reached."""

    cluster: Any  # ray.cluster_utils.Cluster
    gcs: str
    dashboard: str
    cpus: float  # of every worker node
    folder: Path

    def add(self) -> None:
        """Another worker node. Its files have a place of their own, as on a machine of its own: nodes that share
        one delete each other's copies of a job's working directory."""
        place = tempfile.mkdtemp(dir=self.folder)
        self.cluster.add_node(num_cpus=self.cpus, temp_dir=place, **STORE)


def processes_on(raylet: Any) -> list[tuple[psutil.Process, str]]:
    """A node's raylet and all that it has started, each with its command line."""
    family = psutil.Process(raylet.all_processes["raylet"][0].process.pid)
    found = []
    for process in [family, *family.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            found.append((process, " ".join(process.cmdline())))
    return found


def shared_memory() -> set[str]:
    """Names of what lies in this machine's shared memory."""
    return set(os.listdir("/dev/shm"))


@contextmanager
def raylets(count: int, cpus: float, head_cpus: float = 0) -> Iterator[Nodes]:
    """A head and ``count`` workers of ``cpus`` each, every one with its own raylet; ended afterwards."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # jobs call `atommem`
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ.setdefault("RAY_raylet_start_wait_time_s", str(TIMEOUT_S))
    from ray.cluster_utils import Cluster

    port = _free_port()
    ports = {"dashboard_port": port, "dashboard_agent_listen_port": _free_port()}  # another Ray may have the usual ones
    head = {"num_cpus": head_cpus, "include_dashboard": True, **ports, **STORE}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            nodes = Nodes(cluster, cluster.address, f"http://127.0.0.1:{port}", cpus, Path(folder))
            for _ in range(count):
                nodes.add()
            cluster.wait_for_nodes(timeout=TIMEOUT_S)
            yield nodes
        finally:
            cluster.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
