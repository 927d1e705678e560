"""Kill parts of a running endpoint at random moments and count what is lost, doubled or leaked. Run by hand:

    python -m benchmarks.kill_serving --kills 20 --target agent        (agent, engine, ingress, database, node)

Starts `atommem serve` with the tiny policy on two cores (and a real PostgreSQL with --database postgresql). Readers,
each of a session of its own, read documents all the time; while they do, a process of the target is ended by SIGKILL.
With `node` the endpoint spreads over a Ray cluster of two nodes with PostgreSQL; all processes of the second node are
ended, and a new node joins. A reader whose connection breaks comes back with the last event it has seen. Afterwards,
for every session: each chunk was committed exactly once and in order, every event that was received is in the log as
it was told, the entries are what the log's changes add up to, and no text of another session is in them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.readers import NAMES, Reader
from benchmarks.serving_process import ROOT, TARGETS, Endpoint, endpoint


async def measure(served: Endpoint, target: str, kills: int, seconds: float) -> dict[str, Any]:
    """Readers at work, kills at random moments, then the count."""
    async with httpx.AsyncClient(base_url=served.url, timeout=120) as client:
        await served.ready(client)
        stop, readers = asyncio.Event(), [Reader(client, name) for name in NAMES]
        running = [asyncio.create_task(reader.run(stop)) for reader in readers]
        began, away = time.monotonic(), []
        while len(away) < kills and time.monotonic() - began < seconds:
            await served.settled(target)
            await asyncio.sleep(random.uniform(0.5, 5.0))
            told, hit = sum(len(reader.told) for reader in readers), time.monotonic()
            served.kill(target)  # here, not in a thread: a new node wants the main one
            while sum(len(reader.told) for reader in readers) < told + 2 * len(readers):  # it works again
                await asyncio.sleep(0.2)
            away.append(time.monotonic() - hit)
        stop.set()
        await asyncio.gather(*running)
        counts = [await reader.check() for reader in readers]
        total = {name: sum(count[name] for count in counts) for name in counts[0]}
        back = f"median {sorted(away)[len(away) // 2]:.1f} s, longest {max(away):.1f} s"
        broken = sum(reader.broken for reader in readers)
        return {"target": target, "kills": len(away), "two chunks each again after": back, "retries": broken, **total}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Kill parts of an endpoint and count what is lost.")
    parser.add_argument("--target", choices=TARGETS, default="agent")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1e9, help="no more kills after this long")
    parser.add_argument("--port", type=int, default=8732)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        postgresql = options.database == "postgresql" or options.target in ("database", "node")
        with endpoint(Path(folder), options.port, postgresql, options.target == "node") as served:
            print(json.dumps(asyncio.run(measure(served, options.target, options.kills, options.seconds))))


if __name__ == "__main__":
    main()
