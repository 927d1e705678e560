"""The endpoint against its engine: throughput of reading, and whether all of many sessions get their turn. Run by hand:

    python -m benchmarks.serve_engine                       (the tiny policy; about a minute on two free cores)
    python -m benchmarks.serve_engine --shape 576 30 9      (random weights of SmolLM2's shape: the model costs more)

Starts the application of `atommem serve` on a Ray of its own. Throughput: an agent in this process
first reads the documents and keeps every prompt it makes; then documents through the endpoint and the kept prompts
straight to the engine deployment take turns, in the same number of streams. Both count the same chunks.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import httpx
from ray import serve as ray_serve

from benchmarks.scribe import untrained
from cluster.config import RayConfig
from cluster.serving.agent import SessionAgent
from cluster.serving.application import build
from cluster.serving.config import DatabaseConfig, ServingConfig
from cluster.serving.database import Database
from cluster.serving.engine import EngineClient
from cluster.serving.launch import load_config
from cluster.serving.repository import Repository
from cluster.session import ray_session
from env.embedding import BatchedEmbedder, make_embedder
from env.tokenizer import ChatTokenizer
from rollout.config import SamplingConfig
from rollout.types import Completion, Generator

NAMES = ("Anna", "Leo", "Zoe", "Uma", "Kai", "Lara", "Omar", "Ines")
LINES_PER_CHUNK = 6  # of the tiny policy's 40 tokens
Job = Callable[[int], Awaitable[None]]


class Recorder:
    """Passes prompts on to the engine and keeps them."""

    def __init__(self, engine: Generator) -> None:
        self._engine = engine
        self.prompts: list[list[int]] = []

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None = None
    ) -> Completion:
        """See `rollout.types.Generator`."""
        self.prompts.append(list(prompt_ids))
        return await self._engine.generate(prompt_ids, sampling, affinity, seed)


def document(number: int, chunks: int) -> str:
    """A text of about so many chunks, another one for each number."""
    names = [NAMES[(number + i) % 8] for i in range(chunks * LINES_PER_CHUNK)]
    companies = ("Solaria", "Nimbus")
    return "\n".join(f"{name} Berg works at {companies[(number + i) % 2]} ." for i, name in enumerate(names))


async def record(config: ServingConfig, engine: EngineClient, number: int, chunks: int) -> list[list[int]]:
    """The prompts of one session that reads one document."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(DatabaseConfig(url=f"sqlite+aiosqlite:///{folder}/record.db"))
        await database.migrate()
        recorder = Recorder(engine)
        embedder = BatchedEmbedder(make_embedder(config.env.embedder))
        agent = SessionAgent(config, database, ChatTokenizer(config.model), embedder, recorder)
        session = await Repository(database, "local").create_session("", {"focus": []}, 10)
        made = await agent.add_document("local", session.id, document(number, chunks), "", None, False)
        async for _ in agent.read("local", session.id, made.number):
            pass
        await database.close()
        return recorder.prompts


async def read(client: httpx.AsyncClient, number: int, chunks: int) -> int:
    """One new session reads one document through the endpoint; answers its chunks."""
    session = (await client.post("/v1/sessions", json={})).raise_for_status().json()
    path, read = f"/v1/sessions/{session['id']}/documents", 0
    async with client.stream("POST", path, content=document(number, chunks)) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            read += line == "event: chunk"
    return read


async def seconds_of(job: Job, streams: int) -> tuple[float, list[float]]:
    """Wall-clock seconds of `streams` jobs at once, and of each."""
    begun = time.perf_counter()

    async def one(number: int) -> float:
        await job(number)
        return time.perf_counter() - begun

    each = await asyncio.gather(*map(one, range(streams)))
    return time.perf_counter() - begun, list(each)


async def throughput(
    client: httpx.AsyncClient, config: ServingConfig, engine: EngineClient, streams: int, chunks: int
) -> None:
    """Endpoint and engine in turns."""
    prompts = [await record(config, engine, number, chunks) for number in range(streams)]

    async def through_endpoint(number: int) -> None:
        await read(client, number, chunks)

    async def straight(number: int) -> None:
        for seed, prompt in enumerate(prompts[number]):
            await engine.generate(prompt, config.sampling, number, seed)

    times: dict[str, list[float]] = {"endpoint": [], "engine": []}
    for name in ("endpoint", "engine", "engine", "endpoint", "endpoint", "engine"):
        job = through_endpoint if name == "endpoint" else straight
        times[name].append((await seconds_of(job, streams))[0])
    ratio = sum(times["engine"]) / sum(times["endpoint"])
    print(f"{streams} streams, {sum(map(len, prompts))} prompts of about {streams * chunks} chunks; seconds: {times}")
    print(f"throughput of reading through the endpoint over straight to the engine: {ratio:.2f}", flush=True)


async def fairness(client: httpx.AsyncClient, sessions: int, chunks: int) -> None:
    """Many sessions at once: the last one to finish over the median."""

    async def job(number: int) -> None:
        await read(client, number, chunks)

    total, each = await seconds_of(job, sessions)
    middle, worst = statistics.median(each), max(each)
    print(f"{sessions} sessions at once, {chunks} chunks each: {total:.1f} s")
    print(f"worst session {worst:.1f} s, median {middle:.1f} s, ratio {worst / middle:.2f}", flush=True)


async def measure(config: ServingConfig, arguments: argparse.Namespace) -> None:
    """Both, against the application that runs."""
    engine = EngineClient(ray_serve.get_deployment_handle("EngineReplica", "atommem"), config.engine.request_timeout_s)
    limits = httpx.Limits(max_connections=128)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{config.http.port}", timeout=300, limits=limits) as client:
        await throughput(client, config, engine, arguments.streams, arguments.chunks)
        await fairness(client, arguments.sessions, arguments.chunks)


def main() -> None:
    """Start, measure, stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("streams", 8), ("chunks", 12), ("sessions", 64), ("port", 8017)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--shape", type=int, nargs=3, metavar=("HIDDEN", "LAYERS", "HEADS"), help="random weights")
    arguments = parser.parse_args()
    tiny = Path(__file__).parents[1] / "models" / "tiny-policy"
    with untrained(*arguments.shape) if arguments.shape else nullcontext(str(tiny)) as model:
        run(model, arguments)


def run(model: str, arguments: argparse.Namespace) -> None:
    """The application with a model, for as long as it is measured."""
    with tempfile.TemporaryDirectory() as folder, ray_session(RayConfig(num_cpus=2)):
        sets = [f"database.url=sqlite+aiosqlite:///{folder}/atommem.db", f"http.port={arguments.port}"]
        sets.append("limits.requests_per_minute=1000000")
        config = load_config(None, model, sets)
        ray_serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": arguments.port})
        ray_serve.run(build(config), name="atommem", route_prefix="/")
        try:
            asyncio.run(measure(config, arguments))
        finally:
            ray_serve.shutdown()


if __name__ == "__main__":
    main()
