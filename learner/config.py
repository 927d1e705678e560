"""The `learner` and `sft` sections: optimisation, algorithm, DeepSpeed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from env.config import Section


class LoraConfig(Section):
    """Low-rank adapters (PEFT); engines receive the merged weights."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[str] | Literal["all-linear"] = "all-linear"


class OptimizerConfig(Section):
    """AdamW with linear warm-up, then constant, linear or cosine decay over `total_steps`."""

    lr: float = Field(1e-6, gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(20, ge=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    grad_clip: float = Field(1.0, gt=0)


class GRPOConfigSection(Section):
    """The policy-gradient objective (paper: r - mean, clip 0.2/0.28, no KL, no entropy bonus)."""

    advantage: Literal["mean", "mean_std"] = "mean"
    clip_low: float = Field(0.2, gt=0, lt=1)
    clip_high: float = Field(0.28, gt=0)
    aggregation: Literal["dr-grpo", "token-mean", "sequence-mean"] = "token-mean"
    constant_tokens: int = Field(
        4096, ge=1, description="dr-grpo's divisor per trajectory: its budget of output tokens, the same in every batch"
    )
    kl_coefficient: float = Field(0.0, ge=0, description="k3 against the frozen start; 0: no reference is loaded")
    entropy_coefficient: float = Field(0.0, ge=0)
    importance_cap: float | None = Field(
        2.0, gt=0, description="truncated importance sampling learner/engine; None: off"
    )
    epochs: int = Field(1, ge=1, description="passes over a batch; 1 and one update is fully on-policy")
    updates_per_batch: int = Field(1, ge=1)


class LearnerConfig(Section):
    """DeepSpeed workers."""

    workers: int = Field(1, ge=1)
    num_cpus: float = Field(1.0, ge=0)
    num_gpus: float = Field(0.0, ge=0)
    threads: int = Field(1, ge=1, description="OpenMP threads per worker on CPU")
    zero_stage: Literal[0, 1, 2, 3] = 0
    offload: Literal["none", "optimizer", "optimizer+parameters"] = "none"
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    save_dtype: Literal["float32", "bfloat16"] | None = Field(None, description="of saved models; None: dtype")
    gradient_checkpointing: bool = False
    share_prefixes: bool = Field(True, description="compute what turns of a micro-batch begin with once (exact)")
    attention: str = Field("sdpa", description="transformers attention implementation; sdpa with share_prefixes")
    micro_batch_tokens: int = Field(16384, ge=16, description="tokens of one forward pass, shared ones counted once")
    logit_chunk_tokens: int = Field(1024, ge=1, description="rows of logits held at once")
    lora: LoraConfig | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    grpo: GRPOConfigSection = GRPOConfigSection()
    start_timeout_s: float = Field(300.0, gt=0)
    step_timeout_s: float = Field(3600.0, gt=0, description="a worker that answers nothing for so long is lost")
    max_restarts: int = Field(5, ge=0, description="of lost workers, without a checkpoint in between")
    max_skipped_updates: int = Field(5, ge=1, description="in a row (gradient not finite); then the run stops")


class SFTConfig(Section):
    """Completion-only supervised fine-tuning over turns (paper: 3 epochs, sequence length 18,384)."""

    data: str | None = Field(None, description="parquet written by `atommem collect`")
    epochs: int = Field(3, ge=1)
    max_steps: int | None = Field(None, ge=1)
    batch_turns: int = Field(64, ge=1)
    max_tokens: int = Field(18384, ge=16, description="longer turns are dropped and counted")
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-5, schedule="linear")
