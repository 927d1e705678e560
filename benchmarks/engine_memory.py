"""An engine's memory over batches of prompts of many lengths, with oneDNN's cache of kernels and without. Run by hand:

    python -m benchmarks.engine_memory --batches 150          (about three minutes on two free cores)

vLLM itself, with the tiny recipe's settings, in a process of its own per side. Printed at intervals, as glibc counts
them: MB in use, and MB free that cannot be given back; then the processor time per batch of both sides.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil

from cluster.recipes import load_recipe
from rollout.engine_args import engine_kwargs, environment

ROOT = Path(__file__).parents[1]
CACHE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
READINGS, REQUESTS, MAX_NEW_TOKENS = 8, 48, 24
PROMPT_TOKENS = (60, 380)
FIELDS = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
)  # fmt: skip


class Mallinfo(ctypes.Structure):
    """What glibc's `mallinfo2` returns, in bytes."""

    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]


def heap() -> Mallinfo:
    """The heap of this process now: `uordblks` bytes in use, `fordblks` free."""
    library = ctypes.CDLL("libc.so.6")
    library.mallinfo2.restype = Mallinfo
    return library.mallinfo2()


def side(batches: int) -> None:
    """One engine, its memory at intervals, the processor time of a batch."""
    from vllm import LLM, SamplingParams, TokensPrompt

    config = load_recipe(ROOT / "recipes" / "tiny.yaml", [])
    llm = LLM(**engine_kwargs(str(ROOT / config.model), config.rollout.engine, seed=0))
    draw = random.Random(0)
    sampling = SamplingParams(max_tokens=MAX_NEW_TOKENS, ignore_eos=True, logprobs=0, detokenize=False)
    for batch in range(batches + 1):
        prompts = [draw.choices(range(5, 250), k=draw.randint(*PROMPT_TOKENS)) for _ in range(REQUESTS)]
        llm.generate([TokensPrompt(prompt_token_ids=prompt) for prompt in prompts], sampling, use_tqdm=False)
        if batch == 0:
            begun = time.process_time()
        if batch % max(1, batches // READINGS) == 0:
            now, resident = heap(), psutil.Process().memory_info().rss
            print(f"  {batch:4} batches: {now.uordblks / 1e6:.0f} MB in use, {now.fordblks / 1e6:.0f} MB free, "
                  f"{resident / 1e6:.0f} MB resident", flush=True)  # fmt: skip
    print(f"  {(time.process_time() - begun) / batches:.3f} s of processor time per batch", flush=True)


def main() -> None:
    """Both sides, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=150)
    parser.add_argument("--side", action="store_true", help="run one side in this process (internal)")
    options = parser.parse_args()
    if options.side:
        side(options.batches)
        return
    config = load_recipe(ROOT / "recipes" / "tiny.yaml", []).rollout.engine
    ours = os.environ | environment(config) | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    theirs = {name: value for name, value in ours.items() if name != CACHE}
    for title, variables in (("without oneDNN's cache", ours), ("with it, oneDNN's default", theirs)):
        print(title, flush=True)
        command = [sys.executable, "-m", "benchmarks.engine_memory", "--side", "--batches", str(options.batches)]
        subprocess.run(command, cwd=ROOT, env=variables, stderr=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
