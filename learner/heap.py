"""The heap of a learner on CPU (glibc): activations are reused within an update, and given back after it."""

from __future__ import annotations

import ctypes

# glibc reads these when a process starts. Big activations are not mapped anew in every pass.
HEAP_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",  # autograd has a thread of its own: with a heap each, both keep what the other freed
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}


def release_heap() -> None:
    """Give every free page of the heap back to the system. Does nothing where the C library is not glibc.

    Without it a learner keeps what its largest batch so far took, while the engine next to it samples.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
