"""Finds room in the cluster for the learner's workers and starts them as Ray actors."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from env.errors import UserError
from learner.config import LearnerConfig
from learner.heap import HEAP_ENVIRONMENT
from learner.worker import LearnerWorker


def reserve(config: LearnerConfig) -> PlacementGroup:
    """Reserve the workers' resources. Raises UserError when the cluster has no room for them in time."""
    bundle = {"CPU": config.num_cpus, "GPU": config.num_gpus}
    placement = placement_group([{k: v for k, v in bundle.items() if v}] * config.workers, strategy="PACK")
    if not placement.wait(config.start_timeout_s):
        remove_placement_group(placement)
        total, free = ray.cluster_resources(), ray.available_resources()
        raise UserError(
            f"the learner asks for {config.workers} workers of {config.num_cpus:g} CPUs and "
            f"{config.num_gpus:g} GPUs each; the cluster has {total.get('CPU', 0):g} CPUs and "
            f"{total.get('GPU', 0):g} GPUs ({free.get('CPU', 0):g} and {free.get('GPU', 0):g} free) "
            f"after learner.start_timeout_s = {config.start_timeout_s:g} s"
        )
    return placement


def start_worker(config: LearnerConfig, placement: PlacementGroup, rank: int) -> Any:
    """Start the actor of one rank in its reserved place; returns its handle at once."""
    environment = {
        "DS_ACCELERATOR": "cuda" if config.num_gpus else "cpu",
        "OMP_NUM_THREADS": str(config.threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while another process has the core bring both to a halt
        **({} if config.num_gpus else HEAP_ENVIRONMENT),
    }
    strategy = PlacementGroupSchedulingStrategy(placement, placement_group_bundle_index=rank)
    actor = ray.remote(
        num_cpus=config.num_cpus,
        num_gpus=config.num_gpus,
        scheduling_strategy=strategy,
        runtime_env={"env_vars": environment},
    )(LearnerWorker)
    return actor.remote(rank, config.workers)
