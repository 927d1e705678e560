"""Starting DeepSpeed inside a worker: process group, policy, optimizer, reference."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from learner.config import LearnerConfig, OptimizerConfig
from learner.model import Policy, load_policy, load_reference
from learner.optimization import deepspeed_settings, make_optimizer, make_scheduler, zero_stage


def join_ranks(config: LearnerConfig, rank: int, world_size: int, address: tuple[str, int]) -> None:
    """Open the process group that all ranks meet in at ``address``. Collective."""
    import deepspeed

    os.environ |= {
        "MASTER_ADDR": address[0],
        "MASTER_PORT": str(address[1]),
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": "0",  # Ray shows each actor its own device only
        "LOCAL_SIZE": "1",
    }
    if not config.num_gpus:
        torch.set_num_threads(config.threads)
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # compiles for a minute, serves inference only
    deepspeed.init_distributed(dist_backend="nccl" if config.num_gpus else "gloo", verbose=False)


def start_engine(model_path: str, config: LearnerConfig, optimizer: OptimizerConfig, total_steps: int | None) -> Any:
    """DeepSpeed's engine around the policy. Collective. Raises UserError when the model does not load."""
    import deepspeed

    settings = deepspeed_settings(config, optimizer)
    policy = _load(load_policy, model_path, config, settings)
    engine, *_ = deepspeed.initialize(
        model=policy,
        optimizer=make_optimizer(policy.parameters(), config, optimizer),
        lr_scheduler=make_scheduler(optimizer, total_steps),
        config=settings,
    )
    return engine


def start_reference(
    model_path: str, config: LearnerConfig, optimizer: OptimizerConfig, device: torch.device
) -> Any | None:
    """The frozen starting policy, partitioned like the policy under ZeRO-3; None without a KL term. Collective."""
    import deepspeed

    if not config.grpo.kl_coefficient:
        return None
    settings = deepspeed_settings(config, optimizer)
    reference = _load(load_reference, model_path, config, settings)
    if zero_stage(config) == 3:
        return deepspeed.initialize(model=reference, config=settings)[0]
    return reference.to(device)


def full_gradients(model: PreTrainedModel) -> dict[str, np.ndarray]:
    """Whole gradients of the trainable parameters, float32, between backward and step. Collective."""
    from deepspeed.utils import safe_get_full_grad

    return {
        name: safe_get_full_grad(parameter).to("cpu", torch.float32, copy=True).numpy()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def _load(load: Any, model_path: str, config: LearnerConfig, settings: dict[str, Any]) -> Policy:
    """Load a model; under ZeRO-3 each rank keeps its partition only, from the start."""
    from transformers.integrations import HfDeepSpeedConfig

    partitioned = HfDeepSpeedConfig(settings) if zero_stage(config) == 3 else None  # works by being alive
    policy = load(model_path, config)
    del partitioned
    return policy
