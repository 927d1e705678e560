"""Whether a cluster is large enough for a run: said in one line, before anything starts."""

from __future__ import annotations

import time
from collections.abc import Mapping

import ray

from cluster.config import RunConfig
from rollout.errors import RolloutError

Demand = dict[str, tuple[int, float, float]]  # setting -> count, CPUs and GPUs of each
POLL_S = 1.0
SLACK = 1e-6


def demand_of(run: RunConfig, with_learner: bool) -> Demand:
    """The actors a run starts, by the setting that counts them."""
    engine, learner, rollout = run.rollout.engine, run.learner, run.rollout
    demand: Demand = {
        "rollout.engine.count": (engine.count, engine.num_cpus, engine.num_gpus),
        "rollout.runners": (rollout.runners, rollout.runner_cpus, 0.0),
    }
    if with_learner:
        demand["learner.workers"] = (learner.workers, learner.num_cpus, learner.num_gpus)
    return demand


def shortage(demand: Demand, has: Mapping[str, float]) -> str | None:
    """What is asked and what there is, in one line, when the cluster is too small; else None."""
    cpus = sum(count * cpu for count, cpu, _ in demand.values())
    gpus = sum(count * gpu for count, _, gpu in demand.values())
    if cpus <= has.get("CPU", 0.0) + SLACK and gpus <= has.get("GPU", 0.0) + SLACK:
        return None
    asked = ", ".join(
        f"{setting} = {count} of {cpu:g} CPU and {gpu:g} GPU" for setting, (count, cpu, gpu) in demand.items()
    )
    return (
        f"the run asks for {cpus:g} CPU and {gpus:g} GPU ({asked}); "
        f"the cluster has {has.get('CPU', 0):g} CPU and {has.get('GPU', 0):g} GPU"
    )


def await_resources(run: RunConfig, with_learner: bool) -> None:
    """Wait until the cluster is large enough: nodes may still be joining.

    Raises RolloutError, with what was asked and what there is, after `rollout.engine.start_timeout_s`.
    """
    demand, timeout = demand_of(run, with_learner), run.rollout.engine.start_timeout_s
    deadline = time.monotonic() + timeout
    while lacks := shortage(demand, ray.cluster_resources()):
        if time.monotonic() > deadline:
            raise RolloutError(f"{lacks} after {timeout:g} s")
        time.sleep(POLL_S)
