"""What serving costs beside the model: figures of the endpoint's own code, each measured in this one run. Run by hand:

    python -m benchmarks.serve                   (or --parts step search memory; about a minute on a free core)
    python -m benchmarks.serve_engine            (against the real engine: throughput and fairness)

The real HTTP server, agent, environment and SQLite database (synchronous FULL) in one process, with a client that
speaks HTTP to it over the loopback. The policy writes one Create per chunk at once, so that every step also commits.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import faiss
import httpx
import numpy as np
import psutil
import uvicorn

from cluster.serving.agent import SessionAgent
from cluster.serving.config import DatabaseConfig, ServingConfig
from cluster.serving.database import Database
from cluster.serving.http.application import make_app
from cluster.serving.http.context import Context
from cluster.serving.launch import load_config
from cluster.serving.repository import Repository, Work
from env.embedding import BatchedEmbedder, Kind, make_embedder
from env.memory import MemoryStore
from env.tokenizer import ChatTokenizer
from rollout.config import SamplingConfig
from rollout.types import Completion

NAMES = ("Anna", "Leo", "Zoe", "Uma", "Kai", "Lara", "Omar", "Ines")
LIMITS = {"requests_per_minute": 1_000_000, "sessions": 100_000}
TENANT = "local"  # of everybody, where no keys are asked for


class Writer:
    """A policy that stores each chunk; `seconds` is what it took."""

    seconds = 0.0

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None = None
    ) -> Completion:
        """See `rollout.types.Generator`."""
        begun = time.perf_counter()
        chunk = re.search(r"read : (.*?) notes :", self._tokenizer.decode(prompt_ids))
        ids = self._tokenizer.encode(f"<create_memory>{chunk[1] if chunk else 'nothing'}</create_memory>")
        self.seconds += time.perf_counter() - begun
        return Completion(ids, [0.0] * len(ids), 1, "stop")


class TimedEmbedder(BatchedEmbedder):
    """Counts the seconds that callers wait for vectors."""

    seconds = 0.0

    async def embed(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
        """See `BatchedEmbedder`."""
        begun = time.perf_counter()
        try:
            return await super().embed(texts, kind)
        finally:
            self.seconds += time.perf_counter() - begun


@dataclass
class Endpoint:
    """A running endpoint and its parts."""

    client: httpx.AsyncClient
    repository: Repository
    agent: SessionAgent
    policy: Writer
    embedder: TimedEmbedder

    async def session(self, entries: int) -> str:
        """A new session with so many random entries; its path."""
        made = (await self.client.post("/v1/sessions", json={})).raise_for_status().json()
        if entries:
            store = MemoryStore(self.embedder.dim, None)
            vectors = np.random.default_rng(0).standard_normal((entries, self.embedder.dim), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            for i, vector in enumerate(vectors):
                store.create(f"{NAMES[i % len(NAMES)]} Berg works at Solaria . {i}", vector)
            await self.repository.commit(made["id"], 0, Work("edit", store, body={"operations": []}))
        return f"/v1/sessions/{made['id']}"


@asynccontextmanager
async def endpoint(config: ServingConfig, policy_live: int = 1000) -> AsyncIterator[Endpoint]:
    """An endpoint with a database of its own, over HTTP on a free port."""
    with tempfile.TemporaryDirectory() as folder:
        config = config.model_copy(update={
            "database": DatabaseConfig(url=f"sqlite+aiosqlite:///{folder}/atommem.db"),
            "limits": config.limits.model_copy(update=LIMITS), "live_sessions": policy_live,
        })  # fmt: skip
        database, tokenizer = Database(config.database), ChatTokenizer(config.model)
        await database.migrate()
        policy, embedder = Writer(tokenizer), TimedEmbedder(make_embedder(config.env.embedder))
        agent = SessionAgent(config, database, tokenizer, embedder, policy)
        app = make_app(Context(config, database, agent))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            yield Endpoint(client, Repository(database, TENANT), agent, policy, embedder)
        server.should_exit = True
        await serving
        await database.close()


def percentiles(seconds: Sequence[float]) -> str:
    """p50 and p95 in milliseconds."""
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    return f"p50 {p50:6.2f} ms, p95 {p95:6.2f} ms ({len(seconds)} times)"


async def step(config: ServingConfig, entries: int = 1_000, chunks: int = 300) -> None:
    """Time per step of everything but the model and the embedding, in a session that holds `entries`."""
    async with endpoint(config) as served:
        path = await served.session(entries)
        text = "\n".join(f"{NAMES[i % 8]} Berg works at Solaria ." for i in range(6 * chunks))  # 6 lines fill a chunk
        own: list[float] = []
        cpu = time.process_time()
        last = time.perf_counter() - served.policy.seconds - served.embedder.seconds
        async with served.client.stream("POST", f"{path}/documents", content=text) as response:
            async for line in response.aiter_lines():
                if not line.startswith("data: ") or "operations" not in json.loads(line[6:]):
                    continue
                now = time.perf_counter() - served.policy.seconds - served.embedder.seconds
                own.append(now - last)
                last = now
        cpu = (time.process_time() - cpu - served.policy.seconds) / len(own)
    print(f"own code per step at {entries} entries: {percentiles(own[1:])}; the first, with loading: {own[0]:.2f} s")
    print(f"CPU time per step, of server and client together: {cpu * 1000:.2f} ms")


async def search(config: ServingConfig, entries: int = 100_000, times: int = 200) -> None:
    """List and search through HTTP."""
    async with endpoint(config) as served:
        path = await served.session(entries)
        random = np.random.default_rng(1)

        async def timed(query: str) -> float:
            begun = time.perf_counter()
            (await served.client.get(f"{path}/memory{query}")).raise_for_status()
            return time.perf_counter() - begun

        first = await timed("/search?q=Anna&k=10")
        marks = [time.process_time()]
        lists = [await timed(f"?after={random.integers(entries)}&limit=100") for _ in range(times)]
        marks.append(time.process_time())
        found = [await timed(f"/search?q={NAMES[i % 8]}+Berg+{i}&k=10") for i in range(times)]
        cpu = np.diff([*marks, time.process_time()]) / times * 1000
    print(f"list 100 of {entries}: {percentiles(lists)}, CPU {cpu[0]:.2f} ms")
    print(f"search {entries}: {percentiles(found)}, CPU {cpu[1]:.2f} ms; the first, with loading: {first:.2f} s")


async def memory(config: ServingConfig, sessions: int = 1000, entries: int = 20) -> None:
    """Resident memory per session that is kept live (idle), and per session that was evicted."""
    for name, live in (("evicted", 1), ("idle", sessions)):  # in this order: what is freed late hides what is taken
        async with endpoint(config, live) as served:
            warm = [await served.session(entries) for _ in range(50)]
            paths = [await served.session(entries) for _ in range(sessions)]
            for path in warm:  # what the process needs once
                (await served.client.get(f"{path}/memory/search?q=Anna")).raise_for_status()
            before = resident()
            for path in paths:
                (await served.client.get(f"{path}/memory/search?q=Anna")).raise_for_status()
            kept, grown = len(served.agent.live), resident() - before
        print(f"{name} session of {entries} entries: {grown / sessions / 1000:.1f} kB ({kept} of {sessions} live)")


def resident() -> int:
    """Bytes of this process."""
    gc.collect()
    return psutil.Process().memory_info().rss


PARTS = {"step": step, "search": search, "memory": memory}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    faiss.omp_set_num_threads(1)  # as a replica has
    settings = load_config(None, str(Path(__file__).parents[1] / "models" / "tiny-policy"), [])
    for part in parser.parse_args().parts:
        asyncio.run(PARTS[part](settings))
