"""Peak memory of the loss at a vocabulary of 151,936 (Qwen3), with rows of logits in chunks and all at once.

The backbone is a stand-in without layers, so that only the loss is seen. Every size runs in a process of its own,
whose peak resident memory is read at its end.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import torch
from transformers import LlamaConfig

from benchmarks.results import Ratio, keep
from benchmarks.turns import fresh
from learner.model import Policy

VOCABULARY, HIDDEN, CHUNK = 151_936, 64, 256
TOKENS = (256, 1024, 4096)


def one(tokens: int, chunks: int) -> dict[str, float]:
    """Forward and backward of the loss; MiB that the peak lies above the start, and seconds."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=HIDDEN, num_hidden_layers=0,
        num_attention_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    policy = Policy(fresh(config))
    ids = torch.randint(0, VOCABULARY, (1, tokens + 1))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    logprobs, _ = policy(ids[:, :-1], torch.arange(tokens), ids[0, 1:], chunks)
    logprobs.sum().backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"mib": peak / 1024, "seconds": time.perf_counter() - started}


def measured(tokens: int, chunks: int) -> dict[str, float]:
    """`one` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.loss_memory", str(tokens), str(chunks)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure and keep; with two arguments, one size."""
    torch.set_num_threads(1)
    if len(sys.argv) == 3:
        print(json.dumps(one(int(sys.argv[1]), int(sys.argv[2]))))
        return
    started = time.monotonic()
    chunked = {tokens: measured(tokens, tokens // CHUNK) for tokens in TOKENS}
    whole = {tokens: measured(tokens, 1) for tokens in TOKENS[:2]}
    logits = 4 * VOCABULARY * TOKENS[2] / 2**20
    small, large = chunked[TOKENS[1]]["mib"], chunked[TOKENS[2]]["mib"]
    ratios = [
        Ratio(
            f"loss: peak memory at {TOKENS[1]} tokens, logits in chunks of {CHUNK} rows", f"{small:.0f} MiB",
            f"{whole[TOKENS[1]]['mib']:.0f} MiB", whole[TOKENS[1]]["mib"] / small, None, "all logits at once",
        ),
        Ratio(
            f"loss: growth of its peak from {TOKENS[1]} to {TOKENS[2]} tokens", f"{large:.0f} MiB",
            f"{small:.0f} MiB", small / large, 0.9, "itself",
            f"1: independent of the tokens; all logits in float32 would be {logits:.0f} MiB",
        ),
    ]  # fmt: skip
    keep("loss_memory", ratios, started, chunked=chunked, whole=whole)


if __name__ == "__main__":
    main()
