"""Turns and models for the learner's benchmarks."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from cluster.collect import collect_from_teacher
from cluster.recipes import load_recipe
from learner.config import SFTConfig
from learner.sft import read_turns
from learner.types import TrainSequence

TINY = LlamaConfig(
    vocab_size=384, hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=8,
    num_key_value_heads=8, tie_word_embeddings=True,
)  # fmt: skip
SMOLLM2 = LlamaConfig(  # SmolLM2-135M with 2 of its 30 layers; the output layer is whole
    vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=2, num_attention_heads=9,
    num_key_value_heads=3, tie_word_embeddings=True,
)  # fmt: skip


def fresh(config: LlamaConfig, attention: str = "sdpa") -> PreTrainedModel:
    """A random model in float32."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)


def group_turns(vocabulary: int, groups: int, size: int, prefix: int, suffix: int) -> list[TrainSequence]:
    """Random turns: each group has its own prefix; half of a suffix is prompt, half is output."""
    draw = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(6, vocabulary) for _ in range(count)]

    batch = []
    for group in range(groups):
        shared = tokens(prefix)
        for _ in range(size):
            output = tokens(suffix // 2)
            batch.append(TrainSequence(shared + tokens(suffix - len(output)), output, [1.0] * len(output), [], group))
    return batch


def teacher_turns(recipe: str, episodes: int) -> list[TrainSequence]:
    """Turns of the scripted teacher on the registry, in the recipe's prompts: what SFT trains on."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "turns.parquet"
        collect_from_teacher(load_recipe(recipe, ["model=models/tiny-policy"]), episodes, path, lambda counts: None)
        return read_turns(path, SFTConfig().max_tokens)[0]


def flops(config: LlamaConfig, tokens: int, pairs: int, outputs: int) -> float:
    """Of one forward pass: 2 per weight and token, 4 per head dimension and pair of tokens that attend, and the
    output layer at the output tokens."""
    h, kv = config.hidden_size, config.num_key_value_heads / config.num_attention_heads
    weights = h * h * (2 + 2 * kv) + 3 * h * config.intermediate_size
    layers = config.num_hidden_layers * (2 * weights * tokens + 4 * h * pairs)
    return layers + 2 * config.vocab_size * h * outputs


def allowed(config: LlamaConfig, size: int, prefix: int, suffix: int) -> float:
    """How many times fewer operations a group of turns takes when its prefix is computed once."""
    whole, outputs = prefix + suffix, size * suffix // 2
    plain = flops(config, size * whole, size * whole * whole // 2, outputs)
    own = prefix * prefix // 2 + size * (suffix * prefix + suffix * suffix // 2)
    return plain / flops(config, prefix + size * suffix, own, outputs)
