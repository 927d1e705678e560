"""The environments of all cells of an evaluation, made in the runners by the name that a request carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from env.config import EnvConfig
from env.embedding import BatchedEmbedder, make_embedder
from env.tokenizer import ChatTokenizer
from evaluation.catalog import find_method
from evaluation.method import Parts
from rollout.config import RolloutConfig
from rollout.episode import Environment
from rollout.runner import max_prompt_tokens
from rollout.types import GroupRequest


@dataclass(frozen=True)
class MethodSpec:
    """A method with its options, and the environment's configuration that it runs under."""

    method: str
    options: Mapping[str, Any]
    env: EnvConfig


def method_environments(
    specs: Mapping[str, MethodSpec], env: EnvConfig, rollout: RolloutConfig, tokenizer: ChatTokenizer
) -> Callable[[GroupRequest], Environment]:
    """See `MemoryEnvRunner`: `specs` by the requests' `variant`. Equal embedders are loaded once and shared."""
    embedders: dict[str, BatchedEmbedder] = {}

    def embedder_of(config: EnvConfig) -> BatchedEmbedder:
        key = config.embedder.model_dump_json()
        if key not in embedders:
            embedders[key] = BatchedEmbedder(make_embedder(config.embedder))
        return embedders[key]

    def make(request: GroupRequest) -> Environment:
        spec = specs[request.variant]
        window = max_prompt_tokens(rollout.engine.max_model_len, request.sampling.max_new_tokens)
        parts = Parts(spec.env, tokenizer, embedder_of(spec.env), window)
        return find_method(spec.method, spec.options)(parts, **spec.options)

    return make
