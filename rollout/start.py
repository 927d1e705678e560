"""Start the policy engines as Ray actors, or say clearly why they cannot start."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from rollout.config import EngineConfig
from rollout.engine import PolicyEngine
from rollout.engine_args import environment
from rollout.errors import RolloutError
from rollout.pool import EnginePool, wait_until_ready

_CONCURRENT_CALLS = 10_000


def launch_engines(
    model_path: str, config: EngineConfig, *, seed: int, namespace_prefix: str, version: int = 0
) -> EnginePool:
    """Ask Ray for the engines and return at once: they load while other things start. See `await_engines`.

    Args:
        model_path: the weights to start from, on every node.
        config: number and kind of the engines.
        seed: of requests without a seed of their own.
        namespace_prefix: actor names are ``<prefix>-engine-<i>``.
        version: policy version of the starting weights.
    """
    names = [f"{namespace_prefix}-engine-{index}" for index in range(config.count)]
    options: dict[str, Any] = {
        "num_cpus": config.num_cpus,
        "num_gpus": config.num_gpus,
        "max_restarts": -1,
        "max_concurrency": _CONCURRENT_CALLS,
        "runtime_env": {"env_vars": environment(config)},
    }
    actor: Any = ray.remote(PolicyEngine)
    handles = [
        actor.options(name=name, **options).remote(model_path, config, seed, version) for name in names
    ]
    return EnginePool(handles, names, config)


def await_engines(pool: EnginePool) -> EnginePool:
    """Wait until all engines are up, at most ``start_timeout_s``.

    Raises RolloutError that says what was asked and what the cluster has, or why an engine could not start;
    all engines are ended then.
    """
    try:
        wait_until_ready(pool.handles, pool.config.start_timeout_s)
    except GetTimeoutError as error:
        pool.shutdown()
        raise RolloutError(_shortage(pool.config)) from error
    except RayError as error:
        pool.shutdown()
        raise RolloutError(f"a policy engine could not start: {_reason(error)}") from error
    return pool


def start_engines(
    model_path: str, config: EngineConfig, *, seed: int, namespace_prefix: str, version: int = 0
) -> EnginePool:
    """Launch the engines and wait for them."""
    pool = launch_engines(model_path, config, seed=seed, namespace_prefix=namespace_prefix, version=version)
    return await_engines(pool)


def _shortage(config: EngineConfig) -> str:
    total, free = ray.cluster_resources(), ray.available_resources()
    kinds = ("CPU", "GPU")
    has = ", ".join(f"{total.get(kind, 0):g} {kind} ({free.get(kind, 0):g} free)" for kind in kinds)
    return (
        f"engines did not start within rollout.engine.start_timeout_s = {config.start_timeout_s:g} s: "
        f"asked for rollout.engine.count = {config.count} of {config.num_cpus:g} CPU and {config.num_gpus:g} GPU each; "
        f"the cluster has {has}"
    )


def _reason(error: RayError) -> str:
    """The last line of the engine's own error: Ray wraps it in the text of a traceback."""
    text = str(error.args[0]) if isinstance(error, RayActorError) and error.args else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
