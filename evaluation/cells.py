"""A cell of the tables: one suite with one variant of a method, and what makes its results its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from env.task_files import ContentHash
from env.types import Task
from evaluation.environments import MethodSpec
from rollout.config import SamplingConfig

_SAMPLED_BYTES = 1 << 20


@dataclass(frozen=True)
class Cell:
    """`unavailable` says why the method cannot run here; None: it can."""

    suite: str
    variant: str
    spec: MethodSpec
    sampling: SamplingConfig
    model: str
    unavailable: str | None = None

    @property
    def key(self) -> str:
        """Folder of its results, and the name that requests carry."""
        return f"{self.suite}/{self.variant}"

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides its answers, as JSON: results of another fingerprint are not mixed with these."""
        return {
            "method": self.spec.method,
            "options": dict(self.spec.options),
            "env": self.spec.env.model_dump(mode="json", exclude={"task", "data", "eval_data", "split", "teacher"}),
            "sampling": self.sampling.model_dump(mode="json"),
            "model": model_hash(self.model),
        }


def task_hash(task: Task) -> str:
    """16 hexadecimal digits: equal for equal tasks."""
    content = ContentHash()
    content.add(task)
    return content.hexdigest()[:16]


@lru_cache
def model_hash(model: str) -> str:
    """Of a checkpoint's configuration and of its weights' sizes, beginnings and ends; of the name, for a hub name."""
    digest, folder = sha256(), Path(model)
    if not folder.is_dir():
        return model
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("config.json")]):
        with path.open("rb") as file:
            digest.update(f"{path.name} {path.stat().st_size}".encode() + file.read(_SAMPLED_BYTES))
            file.seek(max(0, path.stat().st_size - _SAMPLED_BYTES))
            digest.update(file.read())
    return digest.hexdigest()[:16]
