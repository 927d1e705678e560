"""RunConfig: one whole run, composed of each folder's section. Imports no torch, ray or vllm."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, model_validator

from env.config import EnvConfig, Section
from evaluation.config import EvaluationConfig
from learner.config import LearnerConfig, SFTConfig
from rollout.config import RolloutConfig, SamplingConfig


class LoopConfig(Section):
    """The training loop: how long, and what it leaves behind."""

    iterations: int = Field(100, ge=1)
    eval_episodes: int = Field(0, ge=0, description="held-out tasks evaluated before and after training; 0: none")
    eval_every: int | None = Field(None, ge=1, description="iterations between further evaluations")
    eval_temperature: float = Field(0.0, ge=0, description="0: greedy")
    eval_seed: int = Field(1234, description="of the held-out tasks; the same whatever the run's seed")
    checkpoint_every: int = Field(10, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    mirror: str | None = Field(
        None, description="fsspec URL, e.g. s3://bucket/runs: checkpoints go there too, in the background"
    )
    start_attempts: int = Field(3, ge=1, description="how often the start is tried while actors die in it")
    save_trajectories: int = Field(4, ge=0, description="trajectories written per iteration, whole groups first")


class RayConfig(Section):
    """The Ray cluster: an address to join, or the resources of a private one on this machine."""

    address: str | None = Field(None, description="e.g. auto; None: a private Ray on this machine, or the job's own")
    num_cpus: int | None = Field(None, ge=1, description="of a private Ray; None: all cores")
    object_store_mb: int | None = Field(None, ge=80, description="of a private Ray")
    log_to_driver: bool = Field(False, description="show what the actors print")


class TrackingConfig(Section):
    """Where metrics go besides metrics.jsonl."""

    tensorboard: bool = True
    prometheus: bool = Field(True, description="as Ray metrics, on every Ray node's metrics port")
    wandb_project: str | None = Field(None, description="Weights & Biases project; needs the package wandb")


class RunConfig(Section):
    """A run: `recipes/*.yaml` hold it, `runs/<name>/config.yaml` keeps it as it was resolved."""

    name: str = Field(pattern=r"^[\w.-]+$")
    seed: int = 42
    run_dir: str | None = Field(None, description="None: runs/<name>")
    model: str = Field(description="starting policy: a Hugging Face folder (or hub name)")
    env: EnvConfig = EnvConfig()
    rollout: RolloutConfig = RolloutConfig()
    learner: LearnerConfig = LearnerConfig()
    sft: SFTConfig = SFTConfig()
    loop: LoopConfig = LoopConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    ray: RayConfig = RayConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def directory(self) -> Path:
        """Where the run is written; the environment's ATOMMEM_RUNS stands for `runs` (jobs need a lasting place)."""
        return Path(self.run_dir or Path(os.environ.get("ATOMMEM_RUNS", "runs")) / self.name)

    @property
    def max_prompt_tokens(self) -> int:
        """The engine's window less what one step may generate."""
        return self.rollout.engine.max_model_len - self.rollout.sampling.max_new_tokens

    @property
    def eval_sampling(self) -> SamplingConfig:
        """Sampling of held-out episodes: the training's, at the evaluation's temperature."""
        return self.rollout.sampling.model_copy(update={"temperature": self.loop.eval_temperature, "top_p": 1.0})

    @model_validator(mode="after")
    def _fits_the_window(self) -> RunConfig:
        window, new = self.rollout.engine.max_model_len, self.rollout.sampling.max_new_tokens
        if new >= window:
            raise ValueError(
                f"rollout.sampling.max_new_tokens ({new}) must be smaller than rollout.engine.max_model_len ({window})"
            )
        # Retrieved text is cut to what is left; the chunk and the scratchpad are not.
        shown = self.env.chunk_tokens + self.env.scratchpad_tokens
        if shown >= self.max_prompt_tokens:
            raise ValueError(
                f"env.chunk_tokens ({self.env.chunk_tokens}) + env.scratchpad_tokens ({self.env.scratchpad_tokens}) = "
                f"{shown} do not fit into the window: rollout.engine.max_model_len ({window}) - "
                f"rollout.sampling.max_new_tokens ({new}) = {self.max_prompt_tokens} tokens of prompt"
            )
        return self

    @model_validator(mode="after")
    def _devices_agree(self) -> RunConfig:
        engine = self.rollout.engine
        if engine.weight_transfer == "nccl" and not (engine.num_gpus and self.learner.num_gpus):
            raise ValueError(
                "rollout.engine.weight_transfer is nccl, which needs GPUs: set rollout.engine.num_gpus "
                f"({engine.num_gpus:g}) and learner.num_gpus ({self.learner.num_gpus:g}), or use shm"
            )
        return self

    @model_validator(mode="after")
    def _can_be_colocated(self) -> RunConfig:
        engine, workers = self.rollout.engine, self.learner.workers
        if not engine.colocate:
            return self
        if engine.count != workers or engine.tensor_parallel != 1:
            raise ValueError(
                "rollout.engine.colocate pairs each engine with a learner worker: rollout.engine.count "
                f"({engine.count}) must equal learner.workers ({workers}), and "
                f"rollout.engine.tensor_parallel ({engine.tensor_parallel}) be 1"
            )
        if self.rollout.max_staleness:
            raise ValueError(
                f"rollout.max_staleness is {self.rollout.max_staleness}: an engine that sleeps while the learner works "
                "(rollout.engine.colocate) cannot sample meanwhile; set it to 0"
            )
        if engine.weight_transfer == "nccl":
            raise ValueError(
                "rollout.engine.colocate needs rollout.engine.weight_transfer shm: NCCL joins no processes on one GPU"
            )
        return self
