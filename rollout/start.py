"""Start the policy engines as Ray actors, or say clearly why they cannot start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rollout.config import EngineConfig
from rollout.engine import PolicyEngine
from rollout.engine_args import environment
from rollout.errors import RolloutError, StartError
from rollout.pool import EnginePool, wait_until_ready

_CONCURRENT_CALLS = 10_000


def launch_engines(
    model_path: str,
    config: EngineConfig,
    *,
    seed: int,
    namespace_prefix: str,
    version: int = 0,
    placement: PlacementGroup | None = None,
) -> EnginePool:
    """Ask Ray for the engines and return at once: they load while other things start. See `await_engines`.

    Args:
        model_path: the weights to start from, on every node.
        config: number and kind of the engines.
        seed: of requests without a seed of their own.
        namespace_prefix: actor names are ``<prefix>-engine-<i>``.
        version: policy version of the starting weights.
        placement: one bundle per engine, which it shares with a learner worker; None: wherever there is room.
            A tensor-parallel engine is one actor, so it never spreads over nodes.
    """
    if Path(model_path).is_absolute() and not Path(model_path).is_dir():
        raise RolloutError(f"model '{model_path}': no such folder")
    names = [f"{namespace_prefix}-engine-{index}" for index in range(config.most)]
    options: dict[str, Any] = {
        "num_cpus": config.num_cpus,
        "num_gpus": config.num_gpus,
        "max_restarts": -1,
        "max_concurrency": _CONCURRENT_CALLS,
        "runtime_env": {"env_vars": environment(config)},
    }
    actor: Any = ray.remote(PolicyEngine)
    handles = [
        actor.options(name=name, **options, **_bundle(placement, index)).remote(
            model_path, config, seed, version, late=index >= config.count
        )
        for index, name in enumerate(names)
    ]  # those beyond `count` stay pending until a node has room: an autoscaler sees that
    return EnginePool(handles, names, config)


def _bundle(placement: PlacementGroup | None, index: int) -> dict[str, Any]:
    if placement is None:
        return {}
    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(placement, placement_group_bundle_index=index)}


def await_engines(pool: EnginePool) -> EnginePool:
    """Wait until the first ``count`` engines are up, at most ``start_timeout_s``.

    Raises RolloutError that says what was asked and what the cluster has, or StartError with why an engine could not
    start; all engines are ended then.
    """
    try:
        wait_until_ready(pool.handles[: pool.config.count], pool.config.start_timeout_s)
    except GetTimeoutError as error:
        message = _shortage(pool)
        pool.shutdown()
        raise RolloutError(message) from error
    except RayError as error:
        pool.shutdown()
        raise StartError(f"a policy engine could not start: {start_error(error)}") from error
    return pool


def start_engines(
    model_path: str, config: EngineConfig, *, seed: int, namespace_prefix: str, version: int = 0
) -> EnginePool:
    """Launch the engines and wait for them."""
    pool = launch_engines(model_path, config, seed=seed, namespace_prefix=namespace_prefix, version=version)
    return await_engines(pool)


def _shortage(pool: EnginePool) -> str:
    """What was asked for, how much of it is up, and what the cluster has in total."""
    config, total = pool.config, ray.cluster_resources()
    count, cpus, gpus = config.count, config.num_cpus, config.num_gpus
    return (
        f"{sum(pool.healthy(1.0))} of {count} engines started within "
        f"rollout.engine.start_timeout_s = {config.start_timeout_s:g} s: rollout.engine.count = {count} "
        f"with {cpus:g} CPU and {gpus:g} GPU each is {count * cpus:g} CPU and {count * gpus:g} GPU, "
        f"the cluster has {total.get('CPU', 0):g} CPU and {total.get('GPU', 0):g} GPU for everything"
    )


def start_error(error: RayError) -> str:
    """What an actor's own error says: the last line, less its class, of the traceback that Ray makes of it."""
    text = str(error.args[0]) if isinstance(error, RayActorError) and error.args else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^(\w+\.)+\w+: ", "", lines[-1]) if lines else type(error).__name__
