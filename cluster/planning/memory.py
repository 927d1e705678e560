"""Memory of one GPU, part by part, in bytes. Each formula is derived and sourced in docs/plan.md."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.config import RunConfig
from cluster.planning.shape import ModelShape

VALUE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
LIVE_PARAMETERS = 1_000_000_000  # what ZeRO-3 keeps gathered at most: DeepSpeed's stage3_max_live_parameters
ENGINE_WORKSPACE = 2.0e9  # activations, CUDA graphs and NCCL buffers of a vLLM engine
LEARNER_WORKSPACE = 2.0e9  # CUDA context, NCCL and allocator slack
Parts = dict[str, float]


def learner_memory(config: RunConfig, shape: ModelShape) -> Parts:
    """Bytes on one learner GPU: parameters, gradients, optimizer, activations, logits, workspace."""
    learner = config.learner
    value, workers = VALUE_BYTES[learner.dtype], learner.workers
    stage = max(learner.zero_stage, 1 if learner.dtype == "bfloat16" or learner.offload != "none" else 0)
    trained = shape.parameters if learner.lora is None else _adapter_parameters(config, shape)
    states = trained * (12 if learner.dtype == "bfloat16" else 8)  # master copy in bfloat16, and two moments
    on_device = learner.offload == "none"
    parameters: float = shape.parameters * value
    if stage == 3:
        live = min(shape.parameters, LIVE_PARAMETERS) * value
        parameters = live if learner.offload == "optimizer+parameters" else min(parameters, parameters / workers + live)
    parts = {
        "parameters": parameters,
        "gradients": 4 * trained / (workers if stage >= 2 else 1),
        "optimizer": states / (workers if stage >= 1 else 1) if on_device else 0.0,
        "activations": _activations(config, shape, value),
        "logits": _logits(config, shape, value),
        "workspace": LEARNER_WORKSPACE,
    }
    if config.learner.grpo.kl_coefficient:
        parts["reference"] = shape.parameters * value / (workers if stage == 3 else 1)
    return parts


def _adapter_parameters(config: RunConfig, shape: ModelShape) -> float:
    """LoRA on all linear layers: rank * (in + out) of each (arXiv 2106.09685)."""
    assert config.learner.lora is not None
    attention = 2 * (shape.hidden + shape.query) + 2 * (shape.hidden + shape.key_value)
    return config.learner.lora.rank * shape.layers * (attention + 3 * (shape.hidden + shape.intermediate))


def _activations(config: RunConfig, shape: ModelShape, value: int) -> float:
    """What one layer keeps for its backward pass, for all layers; with checkpointing one layer and every input."""
    tokens = config.learner.micro_batch_tokens
    normed = 2 * (value + 4) * shape.hidden  # inputs of both norms, and their float32 copies
    attention = value * (2 * shape.hidden + 2 * shape.query + 2 * shape.key_value)
    mlp = value * (2 * shape.hidden + 4 * shape.intermediate)
    layer = tokens * (normed + attention + mlp)
    if not config.learner.gradient_checkpointing:
        return shape.layers * layer
    return layer + shape.layers * tokens * shape.hidden * value


def _logits(config: RunConfig, shape: ModelShape, value: int) -> float:
    """One chunk: the output layer's result, float32 logits, log-probabilities, and their gradient."""
    rows = min(config.learner.logit_chunk_tokens, config.learner.micro_batch_tokens)
    return rows * shape.vocabulary * (value + 3 * 4)


def engine_memory(config: RunConfig, shape: ModelShape, device: float) -> Parts:
    """Bytes on one engine GPU; the key-value cache takes what `gpu_memory_utilization` leaves (0: none is left)."""
    engine = config.rollout.engine
    weights = shape.parameters * VALUE_BYTES[engine.dtype] / engine.tensor_parallel
    left = device * engine.gpu_memory_utilization - weights - ENGINE_WORKSPACE
    return {"parameters": weights, "workspace": ENGINE_WORKSPACE, "kv_cache": max(0.0, left)}


def cached_tokens(config: RunConfig, shape: ModelShape, cache: float) -> float:
    """Positions that an engine's cache holds over all its GPUs."""
    engine = config.rollout.engine
    heads = shape.kv_bytes_per_token(VALUE_BYTES[engine.dtype])
    return cache * engine.tensor_parallel / heads


@dataclass(frozen=True)
class Fit:
    """One kind of GPU in the plan: its parts in bytes, what it has, and what to change when that is too little."""

    parts: Parts
    device: float
    advice: str | None = None

    @property
    def total(self) -> float:
        """Bytes of all parts."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the parts fit, with nothing to change."""
        return self.advice is None


def learner_room(config: RunConfig, device: float) -> float:
    """Bytes that a learner may fill: what an engine on the same GPU leaves, unless that one sleeps meanwhile."""
    engine, learner = config.rollout.engine, config.learner
    shared = 0 < learner.num_gpus < 1 and 0 < engine.num_gpus < 1 and not engine.colocate
    return device * (1 - engine.gpu_memory_utilization) if shared else device


def fit_learner(config: RunConfig, shape: ModelShape, device: float) -> Fit:
    """The learner's memory, and the first remedy that makes it fit."""
    room = learner_room(config, device)
    parts = learner_memory(config, shape)
    return Fit(parts, room, None if sum(parts.values()) <= room else _learner_advice(config, shape, room))


def _learner_advice(config: RunConfig, shape: ModelShape, room: float) -> str:
    """Remedies from the cheapest on, each added to those before it, until the parts fit."""
    learner = config.learner
    window = config.rollout.engine.max_model_len
    remedies = {
        "gradient_checkpointing": True,
        "zero_stage": 3,
        "micro_batch_tokens": min(learner.micro_batch_tokens, window),
        "logit_chunk_tokens": min(learner.logit_chunk_tokens, 512),
        "offload": "optimizer",
    }
    taken = []
    for name, value in remedies.items():
        if getattr(learner, name) == value:
            continue
        taken.append(f"learner.{name}={str(value).lower()}")
        learner = learner.model_copy(update={name: value})
        if sum(learner_memory(config.model_copy(update={"learner": learner}), shape).values()) <= room:
            return " ".join(taken)
    return _more_workers(config.model_copy(update={"learner": learner}), shape, room, taken)


def _more_workers(config: RunConfig, shape: ModelShape, room: float, taken: list[str]) -> str:
    for workers in (2**power for power in range(1, 11)):
        learner = config.learner.model_copy(update={"workers": workers})
        if workers > config.learner.workers:
            parts = learner_memory(config.model_copy(update={"learner": learner}), shape)
            if sum(parts.values()) <= room:
                return " ".join([*taken, f"learner.workers={workers}"])
    return "a GPU with more memory: activations and logits of one micro-batch alone do not fit"


def fit_engine(config: RunConfig, shape: ModelShape, device: float) -> Fit:
    """The engine's memory: its cache must hold one whole window at least."""
    engine = config.rollout.engine
    parts = engine_memory(config, shape, device)
    if cached_tokens(config, shape, parts["kv_cache"]) >= engine.max_model_len:
        return Fit(parts, device)
    for ways in (2, 4, 8):
        split = config.rollout.model_copy(update={"engine": engine.model_copy(update={"tensor_parallel": ways})})
        other = config.model_copy(update={"rollout": split})
        cache = engine_memory(other, shape, device)["kv_cache"]
        if ways > engine.tensor_parallel and cached_tokens(other, shape, cache) >= engine.max_model_len:
            return Fit(parts, device, f"rollout.engine.tensor_parallel={ways} rollout.engine.num_gpus={ways}")
    return Fit(parts, device, "a GPU with more memory, or a smaller rollout.engine.max_model_len")
