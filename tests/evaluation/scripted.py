"""Episodes of methods against a scripted model: no engine, the real store, embedder, tokenizer and chunking."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from env.config import EnvConfig
from env.embedding import BatchedEmbedder, make_embedder
from env.tokenizer import ChatTokenizer
from env.types import Question, Task
from evaluation.catalog import find_method
from evaluation.method import Parts
from rollout.config import SamplingConfig
from rollout.episode import run_episode
from rollout.types import Completion, GroupRequest, Trajectory

ROOT = Path(__file__).parents[2]
ENV = EnvConfig(prompt="compact", chunk_tokens=14, chunk_boundary="unit", top_k=2, scratchpad_tokens=12)


@lru_cache
def tokenizer() -> ChatTokenizer:
    return ChatTokenizer(ROOT / "models" / "tiny-policy")


def task(*units: str, ask: str = "Where does Ada Lopez work?", gold: str = "Acrona", name: str = "t0") -> Task:
    return Task(name, units, (Question(ask, (gold,), "1-hop"),))


class Script:
    """A generator whose answers come from `say(prompt, number of the call)`; it keeps the prompts."""

    def __init__(self, say: Callable[[str, int], str]) -> None:
        self.say, self.prompts = say, list[str]()
        self.said: list[str] = []

    async def generate(self, prompt_ids: Any, sampling: Any, affinity: int, seed: int | None = None) -> Completion:
        self.prompts.append(tokenizer().decode(prompt_ids))
        self.said.append(self.say(self.prompts[-1], len(self.prompts) - 1))
        return Completion([len(self.said) - 1], [0.0], 0, "stop", cached_tokens=3)


class Spoken:
    """The tokenizer of an episode: prompts are real ids, an output is the text that the script said."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.prompts: list[str] = []

    def encode_chat(self, messages: Any) -> list[int]:
        self.prompts.append("\n".join(message["content"] for message in messages))
        return tokenizer().encode_chat(messages)

    def decode(self, ids: Any) -> str:
        return self.script.said[ids[0]]


async def play(
    method: str,
    task_: Task,
    say: Callable[[str, int], str],
    config: EnvConfig = ENV,
    window: int = 2000,
    options: dict[str, Any] | None = None,
) -> tuple[Trajectory, list[str]]:
    """The trajectory, and the prompts as text."""
    script = Script(say)
    spoken = Spoken(script)
    parts = Parts(config, tokenizer(), BatchedEmbedder(make_embedder(config.embedder)), window)
    request = GroupRequest(0, task_, 1, SamplingConfig(max_new_tokens=16), seed=1)

    def make(_: GroupRequest) -> Any:
        return find_method(method, options or {})(parts, **(options or {}))

    trajectory = await run_episode(make, script, spoken, request, 0)
    return trajectory, spoken.prompts
