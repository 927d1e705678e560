"""The learner's heap gives its free pages back, in a process that starts as the learner's do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from learner.heap import HEAP_ENVIRONMENT

BLOCKS = """
import psutil, torch
from learner.heap import release_heap

def resident():
    return psutil.Process().memory_info().rss / 1e6

before = resident()
held = []
for _ in range(50):  # blocks of 4 MB; a small one that stays alive lies on top of each
    block, on_top = torch.ones(1_000_000), torch.ones(100)
    held.append((block, on_top))
full = resident()
held = [on_top for _, on_top in held]
del block
freed = resident()
release_heap()
print(full - before, freed - before, resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap")
def test_free_pages_go_back_between_blocks_that_are_in_use() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS], cwd=root, env=os.environ | HEAP_ENVIRONMENT, capture_output=True, check=True
    )
    full, freed, released = map(float, done.stdout.split())
    assert full > 195  # 50 blocks of 4 MB
    assert freed > 195  # kept for the next pass
    assert released < 10
