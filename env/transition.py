"""How one operation changes the memory: the transition function of the memory part of the state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from env.memory import MemoryStore
from env.operations import KINDS, Answer, Create, Delete, Invalid, Operation, Read, Scratchpad, Update
from env.types import OperationRecord, Phase


@dataclass(frozen=True)
class Memory:
    """A store with the rules of the step: how labels name entries, which phase it is, which operations are enabled."""

    store: MemoryStore
    label_to_id: Callable[[int], int | None]
    phase: Phase
    enabled: frozenset[str]


def apply(operation: Operation, vector: np.ndarray | None, memory: Memory) -> OperationRecord:
    """Apply one operation; `vector` is the embedding of a Create's or Update's content.

    Whatever cannot be applied changes nothing and comes back as a record of kind "invalid" with the reason.
    """
    kind = KINDS[type(operation)]
    if isinstance(operation, Invalid):
        return _invalid(operation.reason, operation.text)
    if isinstance(operation, Answer):
        if memory.phase == "chunk":
            return _invalid("answer before a question is asked", operation.text)
        return OperationRecord("answer", operation.text)
    if kind not in memory.enabled:
        return _invalid(f"{kind} is switched off", getattr(operation, "content", ""))
    match operation:
        case Create(content):
            entry_id = memory.store.create(content, _given(vector))
            return OperationRecord("create", content, entry_id, "ok" if entry_id is not None else "discarded")
        case Read(query):
            return OperationRecord("read", query)
        case Scratchpad(content):
            memory.store.write_scratchpad(content)
            return OperationRecord("scratchpad", content)
        case Update(ref, content):
            return _on_entry("update", ref, content, memory, lambda i: memory.store.update(i, content, _given(vector)))
        case Delete(ref):
            return _on_entry("delete", ref, "", memory, memory.store.delete)


def _on_entry(
    kind: str, ref: int, content: str, memory: Memory, change: Callable[[int], bool]
) -> OperationRecord:
    entry_id = memory.label_to_id(ref)
    if entry_id is None or not change(entry_id):
        return _invalid(f"{kind} of entry {ref}, which does not exist", content)
    return OperationRecord(kind, content, entry_id)


def _invalid(reason: str, text: str) -> OperationRecord:
    return OperationRecord("invalid", text, None, reason)


def _given(vector: np.ndarray | None) -> np.ndarray:
    if vector is None:
        raise ValueError("create and update need the vector of their content")
    return vector
