"""Engines beyond `count` join when there is room, with the current weights, and leave without stopping anyone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from pydantic import ValidationError

from rollout.config import EngineConfig, SamplingConfig
from rollout.pool import EnginePool
from rollout.start import start_engines
from rollout.watch import EngineWatch
from tests.fixtures import save_tiny_llama

CPUS = 4  # of the tests' Ray
CONFIG = EngineConfig(
    count=1, max_count=2, num_cpus=1, dtype="float32", max_model_len=512, enforce_eager=True,
    cpu_kv_cache_gib=0.1, request_timeout_s=60, recovery_timeout_s=0,
)  # fmt: skip
PROMPT = [3, *range(6, 20), 1, 5]


class Guest:
    """Takes the room that an engine would need."""


def occupy(cpus: float) -> Any:
    guest = ray.remote(Guest).options(num_cpus=cpus).remote()
    ray.get(guest.__ray_ready__.remote())
    return guest


@pytest.fixture
def guest(local_ray: None) -> Any:
    return occupy(CPUS - 1)


@pytest.fixture
def pool(guest: Any, tmp_path: Path) -> Iterator[EnginePool]:
    made = start_engines(str(save_tiny_llama(tmp_path / "m0", seed=0)), CONFIG, seed=0, namespace_prefix="joining")
    yield made
    made.shutdown()


def versions_of(pool: EnginePool, affinities: range) -> set[int]:
    async def gather() -> list[Any]:
        sampling = SamplingConfig(max_new_tokens=4)
        return await asyncio.gather(*(pool.generate(PROMPT, sampling, affinity=a, seed=a) for a in affinities))

    return {completion.policy_version for completion in asyncio.run(gather())}


def requests(pool: EnginePool, index: int) -> float:
    return ray.get(pool.handles[index].metrics.remote())["requests"]


def until(done: Any, watch: EngineWatch, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, watch.events
        time.sleep(0.2)


@pytest.mark.stack
def test_an_engine_joins_where_there_is_room_and_leaves_without_stopping_anyone(
    pool: EnginePool, guest: Any, tmp_path: Path
) -> None:
    watch = EngineWatch(pool, every_s=0.5).start()
    new = (save_tiny_llama(tmp_path / "m1", seed=1) / "model.safetensors").read_bytes()
    try:
        assert versions_of(pool, range(4)) == {0} and watch.up == 1
        assert pool.update_weights(new, 1) < 30, "nobody waits for an engine without a node"
        assert pool.versions() == [1, None]

        ray.kill(guest)
        until(lambda: watch.up == 2 and pool.versions() == [1, 1], watch)
        assert watch.events == ["joining-engine-1 has joined"] and watch.restarts == 0
        assert versions_of(pool, range(8)) == {1}
        assert requests(pool, 1) > 0

        guest = occupy(CPUS - 2)
        process = psutil.Process(ray.get(pool.handles[1].__ray_call__.remote(lambda self: os.getpid())))
        taken = ray.remote(Guest).options(num_cpus=1).remote()  # waits for the room that the engine leaves
        for part in [*process.children(recursive=True), process]:
            part.send_signal(signal.SIGKILL)
        ray.get(taken.__ray_ready__.remote(), timeout=60)
        until(lambda: watch.up == 1, watch)
        assert versions_of(pool, range(8)) == {1}
        assert pool.update_weights(new, 2) < 30
        assert pool.versions() == [2, None]

        ray.kill(taken)
        until(lambda: pool.versions() == [2, 2], watch)
        assert versions_of(pool, range(8)) == {2}
        ray.kill(guest)
    finally:
        watch.stop()


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValidationError, match="max_count 1 is smaller than count 2"):
        EngineConfig(count=2, max_count=1)
    with pytest.raises(ValidationError, match="need weight_transfer: shm, and colocate: false"):
        EngineConfig(count=2, max_count=3, colocate=True)
    assert EngineConfig(count=2).most == 2 and EngineConfig(count=2, max_count=3).most == 3
