"""Cutting a long text into chunks of tokens."""

from __future__ import annotations

from functools import lru_cache

from env.config import EnvConfig
from env.tokenizer import ChatTokenizer
from env.types import Task

_SEPARATOR = "\n\n"


def chunks(task: Task, tokenizer: ChatTokenizer, config: EnvConfig) -> tuple[str, ...]:
    """The task's text in chunks of at most `chunk_tokens` tokens, in reading order.

    With `chunk_boundary: token` every chunk but the last is full and begins with the last `chunk_overlap` tokens of the
    one before it. With `unit`, whole units are packed, and only a unit that is too long by itself is cut.
    """
    return _remembered(task.units, tokenizer, config.chunk_boundary, config.chunk_tokens, config.chunk_overlap)


def split(units: tuple[str, ...], tokenizer: ChatTokenizer, config: EnvConfig) -> tuple[str, ...]:
    """The same for units that nobody will ask for again: nothing is remembered."""
    cut = _by_token if config.chunk_boundary == "token" else _by_unit
    return cut(units, tokenizer, config.chunk_tokens, config.chunk_overlap)


@lru_cache(maxsize=64)  # the episodes of a group read the same text
def _remembered(
    units: tuple[str, ...], tokenizer: ChatTokenizer, boundary: str, size: int, overlap: int
) -> tuple[str, ...]:
    return (_by_token if boundary == "token" else _by_unit)(units, tokenizer, size, overlap)


def _by_token(units: tuple[str, ...], tokenizer: ChatTokenizer, size: int, overlap: int) -> tuple[str, ...]:
    ids = tokenizer.encode(_SEPARATOR.join(units))
    starts = range(0, max(len(ids) - overlap, 1), size - overlap)
    return tuple(tokenizer.decode(ids[start : start + size]) for start in starts)


def _by_unit(units: tuple[str, ...], tokenizer: ChatTokenizer, size: int, overlap: int) -> tuple[str, ...]:
    packed: list[list[str]] = [[]]
    room = size
    for unit in units:
        length = len(tokenizer.encode(unit))
        if length > size:
            packed += [[piece] for piece in _by_token((unit,), tokenizer, size, overlap)] + [[]]
            room = size
            continue
        if length > room:
            packed.append([])
            room = size
        packed[-1].append(unit)
        room -= length
    return tuple(_SEPARATOR.join(part) for part in packed if part)


def cut(text: str, tokenizer: ChatTokenizer, limit: int) -> tuple[str, int]:
    """The text's first `limit` tokens, and how many tokens were cut off."""
    ids = tokenizer.encode(text)
    return (text, 0) if len(ids) <= limit else (tokenizer.decode(ids[:limit]), len(ids) - limit)
