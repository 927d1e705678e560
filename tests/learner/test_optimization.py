"""Schedules, the checked optimizer, and DeepSpeed's settings."""

from __future__ import annotations

import math

import pytest
import torch

from env.errors import UserError
from learner.config import LearnerConfig, OptimizerConfig
from learner.optimization import (
    CheckedAdamW,
    deepspeed_settings,
    make_scheduler,
    schedule_factor,
    zero_stage,
)


def factors(schedule: str, steps: int) -> list[float]:
    settings = OptimizerConfig(warmup_steps=2, schedule=schedule)
    return [schedule_factor(step, settings, 6) for step in range(steps)]


def test_schedules_warm_up_and_decay() -> None:
    assert factors("constant", 4) == [0.5, 1.0, 1.0, 1.0]
    assert factors("linear", 8) == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0])
    half = [1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0.0]
    assert factors("cosine", 7) == pytest.approx([0.5, 1.0, *half])


def test_a_decay_without_a_number_of_steps_is_refused() -> None:
    with pytest.raises(UserError, match="schedule 'cosine' needs total_steps"):
        make_scheduler(OptimizerConfig(schedule="cosine"), None)


def test_checked_adamw_clips_and_skips() -> None:
    parameter = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = CheckedAdamW([parameter], max_norm=1.0, lr=0.1, weight_decay=0.0)
    parameter.grad = torch.tensor([3.0, 4.0])
    optimizer.step()
    assert optimizer._global_grad_norm == pytest.approx(5.0) and not optimizer.overflow
    assert parameter.tolist() == pytest.approx([2.9, 3.9])
    assert optimizer.state[parameter]["exp_avg"].tolist() == pytest.approx([0.06, 0.08])  # 0.1 of the clipped gradient
    parameter.grad = torch.tensor([float("nan"), 1.0])
    optimizer.step()
    assert optimizer.overflow and parameter.tolist() == pytest.approx([2.9, 3.9])
    assert optimizer.state[parameter]["step"] == 1


def test_bfloat16_and_offload_bring_master_weights() -> None:
    assert zero_stage(LearnerConfig(dtype="float32")) == 0
    assert zero_stage(LearnerConfig(dtype="bfloat16")) == 1
    assert zero_stage(LearnerConfig(dtype="float32", offload="optimizer")) == 1
    assert zero_stage(LearnerConfig(dtype="bfloat16", zero_stage=3)) == 3


def test_parameters_are_offloaded_at_stage_3_only() -> None:
    config = LearnerConfig(zero_stage=2, offload="optimizer+parameters")
    with pytest.raises(UserError, match=r"needs learner\.zero_stage 3, not 2"):
        deepspeed_settings(config, config.optimizer)
    settings = deepspeed_settings(config.model_copy(update={"zero_stage": 3}), config.optimizer)
    assert settings["zero_optimization"]["offload_param"]["device"] == "cpu"
