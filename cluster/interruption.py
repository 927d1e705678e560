"""SIGINT asks a run to end after the iteration in hand."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cluster.console import console


class Interruption:
    """Whether SIGINT has come; the second one is not waited out."""

    def __init__(self) -> None:
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            raise KeyboardInterrupt
        console.print("stopping after this iteration; once more stops at once")


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Take over SIGINT for the length of the block."""
    interruption = Interruption()
    before = signal.signal(signal.SIGINT, interruption)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)
