"""The optimizer, its schedule, and DeepSpeed's settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from env.errors import UserError
from learner.config import LearnerConfig, OptimizerConfig


class CheckedAdamW(torch.optim.AdamW):
    """AdamW that clips by the global norm and leaves out updates whose gradient is not finite.

    Only for ZeRO stage 0, where DeepSpeed does not check; its ZeRO optimizers do the same by themselves. DeepSpeed's
    engine reads ``overflow`` and ``_global_grad_norm`` off its optimizer.
    """

    overflow = False
    _global_grad_norm: float | None = None

    def __init__(self, parameters: Iterable[torch.nn.Parameter], max_norm: float, **settings: Any) -> None:
        super().__init__(parameters, **settings)
        self._max_norm = max_norm

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update, or none: ``overflow`` says which."""
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        self._global_grad_norm = float(torch.nn.utils.clip_grad_norm_(parameters, self._max_norm))
        self.overflow = not math.isfinite(self._global_grad_norm)
        if not self.overflow:
            super().step(closure)


def zero_stage(config: LearnerConfig) -> int:
    """The stage that DeepSpeed runs: bfloat16 needs float32 master weights, which it keeps from stage 1 on."""
    return max(config.zero_stage, 1 if config.dtype == "bfloat16" or config.offload != "none" else 0)


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], config: LearnerConfig, settings: OptimizerConfig
) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters; DeepSpeed compiles nothing for it."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    shared: dict[str, Any] = {
        "lr": settings.lr,
        "betas": settings.betas,
        "weight_decay": settings.weight_decay,
    }
    if zero_stage(config) == 0:
        return CheckedAdamW(trainable, settings.grad_clip, foreach=True, **shared)
    return torch.optim.AdamW(trainable, **shared)


def schedule_factor(step: int, settings: OptimizerConfig, total_steps: int | None) -> float:
    """What the learning rate is multiplied by at update ``step`` (from 0): warm-up 1/w, 2/w .. 1, then the decay."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    assert total_steps is not None
    done = (step - settings.warmup_steps) / max(1, total_steps - settings.warmup_steps)
    if settings.schedule == "linear":
        return max(0.0, 1.0 - done)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def make_scheduler(
    settings: OptimizerConfig, total_steps: int | None
) -> Callable[[torch.optim.Optimizer], LambdaLR]:
    """A factory as DeepSpeed takes it. Raises UserError when the schedule needs a number of steps and has none."""
    if settings.schedule != "constant" and total_steps is None:
        raise UserError(f"optimizer.schedule '{settings.schedule}' needs total_steps; without it use 'constant'")
    return lambda optimizer: LambdaLR(optimizer, lambda step: schedule_factor(step, settings, total_steps))


def deepspeed_settings(config: LearnerConfig, settings: OptimizerConfig) -> dict[str, Any]:
    """DeepSpeed's configuration. Batches are cut outside, so its own batch sizes are nominal."""
    stage = zero_stage(config)
    zero: dict[str, Any] = {"stage": stage}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = False  # exported bucket by bucket instead
    if config.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": config.num_gpus > 0}
    if config.offload == "optimizer+parameters":
        if stage != 3:
            raise UserError(f"learner.offload '{config.offload}' needs learner.zero_stage 3, not {config.zero_stage}")
        zero["offload_param"] = {"device": "cpu", "pin_memory": config.num_gpus > 0}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.grad_clip if stage else 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": config.dtype == "bfloat16"},
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": None,
    }
