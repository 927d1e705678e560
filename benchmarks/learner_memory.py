"""A learner that gives its heap's free pages back after each update, against one that keeps them. Run by hand:

    python -m benchmarks.learner_memory          (about two minutes on a free core)

One DeepSpeed rank with the tiny policy and the heap that `learner/start.py` gives it. The sides take turns, some
updates each; printed: MB resident after an update, and processor time per update, for updates of few and many passes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import psutil
import torch

from benchmarks.learner import started_worker
from benchmarks.results import best, side_by_side
from benchmarks.shared_prefixes import PREFIX, SUFFIX, cut
from benchmarks.turns import TINY, group_turns
from learner.batching import MicroBatch
from learner.heap import HEAP_ENVIRONMENT
from learner.worker import LearnerWorker

ROOT = Path(__file__).parents[1]
PASSES, UPDATES, ROUNDS, BUDGET = (1, 4), 5, 4, 2048


def updates(worker: LearnerWorker, batches: list[MicroBatch]) -> float:
    """Some updates; MB resident after the last."""
    for _ in range(UPDATES):
        worker.update(batches, "sft")
    return psutil.Process().memory_info().rss / 1e6


def kept(worker: LearnerWorker, batches: list[MicroBatch]) -> float:
    """The same without giving anything back."""
    with mock.patch("learner.worker.release_heap"):
        return updates(worker, batches)


def compare(worker: LearnerWorker, batches: list[MicroBatch]) -> str:
    """Both sides at one number of passes per update."""
    seconds = side_by_side(
        ROUNDS, time.process_time, kept=lambda: kept(worker, batches), given=lambda: updates(worker, batches)
    )
    each = {side: best(values) / UPDATES for side, values in seconds.items()}
    return (
        f"passes per update {len(batches)}: {each['given']:.3f} s given back, {each['kept']:.3f} s kept "
        f"({each['given'] / each['kept']:.3f}x); resident after an update "
        f"{updates(worker, batches):.0f} MB against {kept(worker, batches):.0f} MB"
    )


def measure() -> None:
    """All of it, in a process that has the learner's heap."""
    torch.set_num_threads(1)
    worker = started_worker()
    every = cut(group_turns(TINY.vocab_size, 4, 8, PREFIX, SUFFIX), False, BUDGET)
    for passes in PASSES:
        print(compare(worker, every[:passes]), flush=True)


def main() -> None:
    """Measure, in a process of its own."""
    if HEAP_ENVIRONMENT.items() <= os.environ.items():
        measure()
        return
    command = [sys.executable, "-m", "benchmarks.learner_memory"]
    subprocess.run(command, cwd=ROOT, env=os.environ | HEAP_ENVIRONMENT, check=True)


if __name__ == "__main__":
    main()
