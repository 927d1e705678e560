"""The memory of a recorded episode, step by step, rebuilt from its operation records.

Works on trajectories as JSON (`rollout.record.trajectory_to_json`), which is what a run directory holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Change:
    """One operation of a step. `old` is the text before of the entry or scratchpad, if it had any."""

    kind: str
    text: str
    entry_id: int | None
    outcome: str
    old: str | None = None


@dataclass
class State:
    """After one step: its changes, the entries by id, and the scratchpad.

    `begin` are the entries when the model was asked."""

    changes: list[Change] = field(default_factory=list)
    begin: dict[int, str] = field(default_factory=dict)
    entries: dict[int, str] = field(default_factory=dict)
    scratchpad: str = ""


def replay(turns: list[dict[str, Any]]) -> list[State]:
    """The state after each turn. Operations that were not "ok" change nothing.

    The scratchpad after a step is what the next step was shown: the environment may have cut it.
    """
    states: list[State] = []
    entries: dict[int, str] = {}
    for number, turn in enumerate(turns):
        record = turn["record"]
        state = State(entries=dict(entries), scratchpad=record["scratchpad"])
        state.changes = [_apply(operation, state) for operation in record.get("before", ())]
        state.begin = dict(state.entries)
        state.changes += [_apply(operation, state) for operation in record["operations"]]
        if number + 1 < len(turns):
            state.scratchpad = turns[number + 1]["record"]["scratchpad"]
        entries = state.entries
        states.append(state)
    return states


def _apply(operation: dict[str, Any], state: State) -> Change:
    kind, text, entry_id = operation["kind"], operation["text"], operation["entry_id"]
    old = None
    if operation["outcome"] == "ok":
        if kind == "scratchpad":
            old, state.scratchpad = state.scratchpad, text
        elif kind == "delete":
            old = state.entries.pop(entry_id, None)
        elif kind in ("create", "update"):
            old = state.entries.get(entry_id)
            state.entries[entry_id] = text
    return Change(kind, text, entry_id, operation["outcome"], old)
