"""Bringing a new policy to the engine: 135M parameters (SmolLM2's shape, random) from a DeepSpeed worker to vLLM.

The yardstick is one copy of the same bytes in memory: no transport between two processes can do with less.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig

from benchmarks.engines import engines, tiny
from benchmarks.results import Ratio, best, keep
from benchmarks.turns import fresh
from learner.config import LearnerConfig
from learner.group import LearnerGroup
from learner.weight_sync import WeightSync

CONFIG = LlamaConfig(
    vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
    num_key_value_heads=3, tie_word_embeddings=True, max_position_embeddings=2048, bos_token_id=None, eos_token_id=2,
)  # fmt: skip
ROUNDS = 4


def save_model(folder: Path) -> Path:
    """The random model in bfloat16, with the tiny policy's tokenizer: the learner asks for one, nobody uses it."""
    fresh(CONFIG).to(torch.bfloat16).save_pretrained(folder)
    for file in Path("models/tiny-policy").glob("*token*"):
        shutil.copy(file, folder)
    return folder


def copy_seconds(size: int) -> float:
    """Of one copy of so many bytes in memory."""
    source = np.ones(size, np.uint8)
    target = np.empty_like(source)
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - started)
    return best(seconds)


def main() -> None:
    """Measure and keep."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(Path(folder) / "model")
        config = tiny(f"model={model}", "rollout.engine.dtype=bfloat16", "ray.object_store_mb=1500")
        learner_config = LearnerConfig(dtype="bfloat16", num_cpus=0.5)
        with engines(config) as pool:
            learner = LearnerGroup(learner_config, str(model), seed=0)
            try:
                sync = WeightSync(learner, pool)
                seconds = [sync.push(version) for version in range(1, ROUNDS + 2)][1:]
            finally:
                learner.shutdown()
    size = 2 * sum(parameter.numel() for parameter in fresh(CONFIG).parameters())
    copy = copy_seconds(size)
    ratio = Ratio(
        "weight sync: 135M parameters, learner to engine", f"{best(seconds):.2f} s", f"{copy * 1e3:.0f} ms",
        copy / best(seconds), None, f"one copy of the same {size / 2**20:.0f} MiB in memory",
        "gather, safetensors, object store, file in shared memory, check, load, repack the tied head",
    )  # fmt: skip
    keep("weight_sync", [ratio], started, seconds=seconds)


if __name__ == "__main__":
    main()
