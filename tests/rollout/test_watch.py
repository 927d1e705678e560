"""The watch over engines whose health is scripted, as real Ray actors that die and come back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import ray

from rollout.config import EngineConfig
from rollout.pool import EnginePool
from rollout.watch import EngineWatch

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("local_ray")]


class Engine:
    """Says of itself what the test tells it; keeps the version it was updated to."""

    def __init__(self) -> None:
        self.version, self.silent_s, self.fault = 0, 0.0, None
        self.waits = ray.get_runtime_context().was_current_actor_reconstructed

    async def health(self) -> dict[str, Any]:
        return {"healthy": True, "fault": self.fault, "waits": self.waits, "silent_s": self.silent_s}

    async def update_weights(self, weights: Any, version: int) -> None:
        self.version, self.waits = version, False

    async def keep_start_weights(self) -> None:
        self.waits = False

    async def set(self, **values: Any) -> None:
        self.__dict__.update(values)

    async def get(self, name: str) -> Any:
        return os.getpid() if name == "pid" else getattr(self, name)

    async def block(self) -> None:
        time.sleep(600)  # the whole event loop, as a hung engine does


@pytest.fixture
def pool() -> Any:
    actor: Any = ray.remote(Engine)
    handles = [actor.options(num_cpus=0, max_restarts=-1).remote() for _ in range(2)]
    made = EnginePool(handles, ["a", "b"], EngineConfig(count=2, request_timeout_s=2.0))
    ray.get([handle.health.remote() for handle in handles])
    yield made
    made.shutdown()


def ask(pool: EnginePool, index: int, name: str) -> Any:
    return ray.get(pool.handles[index].get.remote(name), timeout=60)


def until(watch: EngineWatch, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline, watch.events
        watch.check()
        time.sleep(0.1)


def test_an_engine_that_died_gets_the_weights_of_the_others(pool: EnginePool) -> None:
    watch = EngineWatch(pool)
    pool.update_weights(b"weights", 3)
    pool.kill(0)
    until(watch, lambda: "a is back with the current weights" in watch.events)
    assert ask(pool, 0, "version") == 3 and ask(pool, 0, "waits") is False
    assert watch.restarts == 1 and not any(event.startswith("b ") for event in watch.events)


def test_before_any_update_the_start_weights_are_the_right_ones(pool: EnginePool) -> None:
    watch = EngineWatch(pool)
    pool.kill(1)
    until(watch, lambda: "b is back with the current weights" in watch.events)
    assert ask(pool, 1, "version") == 0 and ask(pool, 1, "waits") is False


@pytest.mark.parametrize(
    ("symptom", "reason"),
    [({"silent_s": 3.0}, "no request answered for 2 s"), ({"fault": "core died"}, "core died")],
)
def test_a_hung_or_broken_engine_is_restarted_with_its_reason(
    pool: EnginePool, symptom: dict[str, Any], reason: str
) -> None:
    watch, before = EngineWatch(pool), ask(pool, 0, "pid")
    ray.get(pool.handles[0].set.remote(**symptom))
    until(watch, lambda: "a is back with the current weights" in watch.events)
    assert watch.events[0] == f"a is being restarted: {reason}"
    assert ask(pool, 0, "pid") != before


def test_an_engine_that_does_not_answer_at_all_is_looked_at_and_restarted(pool: EnginePool) -> None:
    watch, before, seen = EngineWatch(pool), psutil.Process(ask(pool, 0, "pid")), []
    watch.on_hang = lambda reason: seen.append((reason, before.is_running()))
    pool.handles[0].block.remote()
    until(watch, lambda: "a is back with the current weights" in watch.events)
    assert watch.events[0] == "a is being restarted: no sign of life for 2 s"
    assert seen == [("a: no sign of life for 2 s", True)], "while it still hung"


def test_nothing_is_judged_while_an_update_is_on_its_way(pool: EnginePool) -> None:
    import threading

    watch = EngineWatch(pool)
    ray.get(pool.handles[0].set.remote(fault="half-way"))
    with pool.lock:
        checker = threading.Thread(target=watch.check)
        checker.start()
        checker.join()
    assert watch.events == []
