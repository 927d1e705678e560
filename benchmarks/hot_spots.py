"""Where the time goes, function by function. Run by hand:

    python -m benchmarks.hot_spots

The runner's side: cProfile of the process that plays the tiny recipe's episodes, while the engine computes in another.
The learner's side: torch's profiler on the turns of these episodes, with shared prefixes and in padded batches.
"""

from __future__ import annotations

import cProfile
import io
import pstats
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM

from benchmarks.engines import engines, play, requests, tiny
from benchmarks.iteration import sequences
from benchmarks.shared_prefixes import cut, learn
from learner.types import TrainSequence
from rollout.types import Trajectory

TASKS, GROUP = 8, 8
SHOWN = 18


def profiled(work: Callable[[], Any], order: str) -> Any:
    """Print the functions that took most, and return what the work returned."""
    profiler, out = cProfile.Profile(), io.StringIO()
    result = profiler.runcall(work)
    pstats.Stats(profiler, stream=out).strip_dirs().sort_stats(order).print_stats(SHOWN)
    print(f"== by {order}\n" + "\n".join(line for line in out.getvalue().splitlines() if line.strip()))
    return result


def rollouts() -> list[Trajectory]:
    """Episodes of one iteration, once to warm up and once under the profiler."""
    config = tiny()
    groups = requests(config, TASKS, GROUP)
    with engines(config) as pool:
        play(config, pool, groups)
        pool.update_weights(config.model, 0)
        return profiled(lambda: play(config, pool, groups), "tottime")


def operators(turns: list[TrainSequence], share: bool) -> None:
    """The learner's forward and backward pass over the turns, by operator."""
    kind = "shared_prefixes" if share else "sdpa"
    model = AutoModelForCausalLM.from_pretrained(tiny().model, attn_implementation=kind)
    batches = cut(turns, share)
    learn(model, batches)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        learn(model, batches)
    print(f"== learner, {'shared prefixes' if share else 'padded'}: {len(batches)} micro-batches")
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=SHOWN, max_name_column_width=64))


def main() -> None:
    """Both sides."""
    torch.set_num_threads(1)
    turns = [turn for number, one in enumerate(rollouts()) for turn in sequences(one, number)]
    print(f"{len(turns)} turns of {sum(map(len, turns))} tokens")
    for share in (False, True):
        operators(turns, share)


if __name__ == "__main__":
    main()
