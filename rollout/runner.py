"""MemoryEnvRunner: RLlib's EnvRunner around an EpisodeHost with memory environments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
from ray.rllib.env.env_runner import EnvRunner

from env.config import EnvConfig
from env.embedding import BatchedEmbedder, make_embedder
from env.judge import Judge
from env.memory_env import MemoryEnv
from env.tokenizer import ChatTokenizer
from rollout.config import RolloutConfig
from rollout.episode import Environment
from rollout.errors import RolloutError
from rollout.host import EpisodeHost, HostStatus
from rollout.types import Group, GroupRequest

EnvFactory = Callable[[GroupRequest], Environment]


class MemoryEnvRunner(EnvRunner):
    """Hosts many memory episodes at once; policies live in the engine pool.

    ``config.env_config`` holds ``env`` and ``rollout`` (those sections as dicts), ``tokenizer`` (folder) and
    ``pool`` (an EnginePool, or another Generator). With ``environments``, a function of the two sections and
    the tokenizer that returns an EnvFactory, it runs other environments than MemoryEnv.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        spec = self.config.env_config
        env, rollout = EnvConfig.model_validate(spec["env"]), RolloutConfig.model_validate(spec["rollout"])
        tokenizer = ChatTokenizer(spec["tokenizer"])
        factory: EnvFactory = spec.get("environments", memory_environments)(env, rollout, tokenizer)
        self._host = EpisodeHost(factory, spec["pool"], tokenizer, rollout.episodes_per_runner)

    def submit(self, requests: Sequence[GroupRequest]) -> None:
        """Start groups; returns at once."""
        self._host.submit(requests)

    def advance(self, requests: Sequence[GroupRequest] = (), wait_s: float = 0.2) -> HostStatus:
        """Start groups and report what finished, in one call (the collector's)."""
        self._host.submit(requests)
        return self._host.collect(wait_s)

    def sample(self, **kwargs: Any) -> list[Group]:
        """The groups that finished since the last call; never waits, never raises for a bad episode."""
        return self._host.collect().groups

    def cancel(self) -> None:
        """Give up every running group."""
        self._host.cancel()

    def get_metrics(self) -> dict[str, float]:
        """Turns generated since the start."""
        return {"turns": float(self._host.turns)}

    def assert_healthy(self) -> None:
        """The constructor went through: nothing else can be missing."""
        assert self._host is not None

    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        """Texts are no gymnasium boxes: there are no spaces."""
        return {}

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """A runner keeps no state: every episode follows from its request."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """See `get_state`."""

    def stop(self) -> None:
        """End the episodes' thread."""
        self._host.close()


def memory_environments(env: EnvConfig, rollout: RolloutConfig, tokenizer: ChatTokenizer) -> EnvFactory:
    """MemoryEnvs that share one embedder and one judge."""
    embedder = BatchedEmbedder(make_embedder(env.embedder))
    judge = Judge(env.reward.judge) if env.reward.judge else None

    def make(request: GroupRequest) -> MemoryEnv:
        window = max_prompt_tokens(rollout.engine.max_model_len, request.sampling.max_new_tokens)
        return MemoryEnv(env, tokenizer, embedder, judge, window)

    return make


def max_prompt_tokens(window: int, max_new_tokens: int) -> int:
    """Prompt tokens that leave room for a whole turn. Raises RolloutError when there is none."""
    if max_new_tokens >= window:
        raise RolloutError(
            f"sampling.max_new_tokens = {max_new_tokens} leaves no room for a prompt in "
            f"rollout.engine.max_model_len = {window}"
        )
    return window - max_new_tokens
