"""The `rollout` section: sampling, engines, runners."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from env.config import Section


class SamplingConfig(Section):
    """How one turn is sampled. Training keeps top_p at 1, so that log-probabilities are the policy's."""

    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(4096, ge=1)


class EngineConfig(Section):
    """One vLLM engine; `count` of them form the pool, and up to `max_count` while nodes have room for more."""

    count: int = Field(1, ge=1)
    max_count: int | None = Field(None, ge=1, description="engines join up to this number when nodes have room")
    num_cpus: float = Field(1.0, ge=0)
    num_gpus: float = Field(0.0, ge=0)
    tensor_parallel: int = Field(1, ge=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    max_model_len: int = Field(16384, ge=32)
    max_num_seqs: int = Field(256, ge=1)
    enforce_eager: bool = False
    gpu_memory_utilization: float = Field(0.85, gt=0, le=1)
    cpu_kv_cache_gib: float = Field(1.0, gt=0, description="key-value cache of a CPU engine")
    update: Literal["wait", "keep"] = Field(
        "wait", description="wait: turns in flight end on the old weights; keep: they go on, in the middle, on the new"
    )
    weight_transfer: Literal["nccl", "shm"] = Field("shm", description="shm: files in shared memory (CPU)")
    colocate: bool = Field(False, description="share the device with a learner worker; sleep while that one works")
    start_timeout_s: float = Field(300.0, gt=0)
    request_timeout_s: float = Field(600.0, gt=0, description="an engine that answers nothing for so long is restarted")
    recovery_timeout_s: float = Field(900.0, ge=0, description="how long a turn waits for any engine to come back")

    @property
    def most(self) -> int:
        """Engines that there may be at once."""
        return max(self.count, self.max_count or 0)

    @model_validator(mode="after")
    def _can_join(self) -> EngineConfig:
        if self.max_count is not None and self.max_count < self.count:
            raise ValueError(f"max_count {self.max_count} is smaller than count {self.count}")
        if self.most > self.count and (self.colocate or self.weight_transfer == "nccl"):
            raise ValueError("max_count: engines that join later need weight_transfer: shm, and colocate: false")
        return self


class RolloutConfig(Section):
    """Episodes per iteration and the actors that run them."""

    runners: int = Field(1, ge=1)
    max_runners: int | None = Field(None, ge=1, description="runners join up to this number when nodes have room")
    runner_cpus: float = Field(1.0, ge=0)
    episodes_per_runner: int = Field(256, ge=1, description="concurrent episodes in one runner")
    tasks_per_batch: int = Field(8, ge=1, description="groups per iteration")
    group_size: int = Field(8, ge=1, description="episodes per task")
    drop_equal_groups: bool = Field(False, description="dynamic sampling: refill groups of equal rewards")
    max_refills: int = Field(2, ge=0, description="refills per iteration, in batches of groups")
    max_staleness: int = Field(0, ge=0, description="versions between sampling and learning; 0: on-policy")
    attempts: int = Field(3, ge=1, description="times that a task is tried which breaks its runner or fails whole")
    max_failed_share: float = Field(0.5, gt=0, le=1, description="stop when more of a batch failed")
    sampling: SamplingConfig = SamplingConfig()
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _a_turn_fits(self) -> RolloutConfig:
        if self.sampling.max_new_tokens >= self.engine.max_model_len:
            raise ValueError(
                f"sampling.max_new_tokens {self.sampling.max_new_tokens} leaves no room for a prompt in "
                f"engine.max_model_len {self.engine.max_model_len}"
            )
        return self
