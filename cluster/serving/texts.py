"""What a chunk should not split, in a text that comes as one string."""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def units_of(text: str, boundary: str) -> tuple[str, ...]:
    """Lines, cut into sentences, where chunks are packed from whole units; the text itself where they are not."""
    if boundary == "token":
        return (text,)
    return tuple(
        sentence for line in text.splitlines() for sentence in _SENTENCE.split(line.strip()) if sentence.strip()
    )
