"""The learner on one GPU: Qwen3-shaped random weights in bfloat16, padded and with shared prefixes. Needs CUDA.

Tokens per second of useful training, model FLOP utilisation (the operations of padded training without recomputation,
over the device's peak) and peak memory, at a prefix of 4,096 and suffixes of 512 tokens in groups of 16. It has not
been run: the machines that this was written on have no GPU.

    python -m benchmarks.gpu_learner 0.6B --peak-tflops 989
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from benchmarks.results import Ratio, keep
from benchmarks.turns import group_turns
from learner.advantages import imitation_weights
from learner.batching import MicroBatch, plan
from learner.losses import imitation_loss
from learner.model import Policy
from learner.types import TrainSequence

SHAPES = {
    "0.6B": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    "8B": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32},
}
GROUP, PREFIX, SUFFIX, BUDGET, ROUNDS = 16, 4096, 512, 16384, 3


def policy(shape: str) -> Policy:
    """A random model on the GPU, with gradient checkpointing as a model of this size is trained."""
    config = Qwen3Config(
        vocab_size=151_936, num_key_value_heads=8, head_dim=128, tie_word_embeddings=shape == "0.6B", **SHAPES[shape]
    )
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    model.gradient_checkpointing_enable({"use_reentrant": False})
    return Policy(model.train())


def learn(policy: Policy, micro_batches: Sequence[MicroBatch]) -> None:
    """Forward and backward of all micro-batches."""
    policy.zero_grad()
    for made in micro_batches:
        arrays = (made.input_ids, made.positions, made.targets, made.weights)
        ids, positions, targets, weights = (torch.from_numpy(array).cuda() for array in arrays)
        logprobs, entropy = policy(ids, positions, targets, made.chunks, layout=made.layout)
        imitation_loss(logprobs, entropy, weights)[0].backward()
    torch.cuda.synchronize()


def measure(policy: Policy, batch: list[TrainSequence], share: bool) -> tuple[float, float]:
    """Seconds of one pass over the batch, and peak GiB."""
    policy.model.set_attn_implementation("shared_prefixes" if share else "sdpa")
    made = plan(batch, imitation_weights(batch), workers=1, budget=BUDGET, share_prefixes=share)[0]
    learn(policy, made)
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        learn(policy, made)
        seconds.append(time.perf_counter() - started)
    return min(seconds), torch.cuda.max_memory_allocated() / 2**30


def operations(policy: Policy, batch: Sequence[TrainSequence]) -> float:
    """Of plain training on the batch: 6 per weight and token, 6 per head dimension and pair of tokens and layer."""
    config = policy.model.config
    layers = policy.model.base_model.layers
    body = sum(parameter.numel() for parameter in layers.parameters())
    width = config.num_attention_heads * config.head_dim * config.num_hidden_layers
    lengths = np.array([len(turn) for turn in batch], dtype=float)
    outputs = sum(len(turn.output_ids) for turn in batch)
    return 6 * (body * lengths.sum() + width * (lengths**2).sum() + config.vocab_size * config.hidden_size * outputs)


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--peak-tflops", type=float, default=989.0, help="dense bfloat16 of an H100 or H200")
    arguments = parser.parse_args()
    started = time.monotonic()
    model = policy(arguments.shape)
    batch = group_turns(151_936, 2, GROUP, PREFIX, SUFFIX)
    (plain, plain_gib), (shared, shared_gib) = measure(model, batch, False), measure(model, batch, True)
    used = operations(model, batch) / plain / arguments.peak_tflops / 1e12
    tokens = sum(map(len, batch))
    device = torch.cuda.get_device_name()
    ratios = [
        Ratio(
            f"GPU: shared prefixes, Qwen3-{arguments.shape}, 4,096:512, group 16", f"{tokens / shared:,.0f} tokens/s",
            f"{tokens / plain:,.0f} tokens/s", plain / shared, 4.0, "own padded batches, SDPA",
            f"{device}; peak {shared_gib:.1f} GiB against {plain_gib:.1f} GiB",
        ),
        Ratio(
            f"GPU: model FLOP utilisation, padded, Qwen3-{arguments.shape}", f"{used:.1%}",
            f"{arguments.peak_tflops:g} TFLOP/s", used, 0.45, "the device's peak", device,
        ),
    ]  # fmt: skip
    keep(f"gpu_learner_{arguments.shape}", ratios, started)


if __name__ == "__main__":
    main()
