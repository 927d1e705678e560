"""The synthetic registry with its knobs: hops, people, distractors, changed facts. (Capacity is `env.capacity`.)"""

from __future__ import annotations

from collections.abc import Sequence

from env.config import RegistryConfig
from env.registry import RegistrySource
from env.types import Task
from evaluation.suite import Suite


class Registry(Suite, RegistryConfig):
    """Worlds that training never sees (`split` eval)."""

    def tasks(self, count: int, seed: int) -> Sequence[Task]:
        """The first worlds of the held-out stream."""
        config = RegistryConfig(**{name: getattr(self, name) for name in RegistryConfig.model_fields})
        source = RegistrySource(config, seed, "eval")
        return [source[index] for index in range(count)]
