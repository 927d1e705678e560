"""The data of the trajectory viewer: a choice of episodes with the memory's changes, as one JSON value.

Texts are interned in one table, because the episodes of a group share their chunks and entries recur at every
step. Choice: iterations are taken in the order first, last, middle, ... and of each its best and worst
episodes in turn, until the size budget is spent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, TypeVar

from evaluation.evidence import explain, is_right
from evaluation.replay import Change, State, replay
from evaluation.run_files import read_jsonl

T = TypeVar("T")
EPISODES_PER_FILE = 16


class Strings:
    """A table of distinct texts; calling it gives a text's index."""

    def __init__(self) -> None:
        self.table: dict[str, int] = {}
        self.size = 0

    def __call__(self, text: str | None) -> int | None:
        if text is None:
            return None
        if text not in self.table:
            self.size += len(text)
        return self.table.setdefault(text, len(self.table))


def viewer_data(files: Sequence[Path], budget: int = 12_000_000) -> dict[str, Any]:
    """Episodes of trajectory files (``step_XXXXXX.jsonl`` of training, ``eval_XXXXXX.jsonl`` held-out).

    ``budget`` bounds the size in characters; one episode is always kept. Values are finite, so that
    the result is strict JSON. Raises UserError when a line is not JSON.
    """
    strings, kept = Strings(), dict[Path, list[dict[str, Any]]]()
    spent = total = 0
    for path in spread(files):
        rows = [row for _, row in read_jsonl(path)]
        total += len(rows)
        for row in _best_and_worst(rows)[:EPISODES_PER_FILE]:
            if kept and spent + strings.size > budget:
                break
            episode = _episode(row, strings)
            spent += len(json.dumps(episode))
            kept.setdefault(path, []).append(episode)
    iterations = [{**_label(path), "episodes": kept[path]} for path in files if path in kept]
    shown = sum(len(iteration["episodes"]) for iteration in iterations)
    return {"strings": list(strings.table), "iterations": iterations, "shown": shown, "total": total}


def cells_data(
    cells: Iterable[tuple[str, Iterable[dict[str, Any]]]], budget: int = 8_000_000
) -> dict[str, Any]:
    """Chosen episodes of an evaluation by the name of their cell; what exceeds the budget is left out, and counted."""
    strings, kept, spent, total = Strings(), list[dict[str, Any]](), 0, 0
    for name, rows in cells:
        episodes = []
        for row in rows:
            total += 1
            if kept and spent + strings.size > budget:
                continue
            episodes.append(_episode(row, strings))
            spent += len(json.dumps(episodes[-1]))
        if episodes:
            kept.append({"name": name, "episodes": episodes})
    shown = sum(len(cell["episodes"]) for cell in kept)
    return {"strings": list(strings.table), "iterations": kept, "shown": shown, "total": total, "choice": "Cell"}


def spread(items: Sequence[T]) -> list[T]:
    """First, last, middle, then the middles of what lies between: any prefix covers the whole range."""
    if len(items) < 3:
        return list(items)
    order, gaps = [0, len(items) - 1], [(0, len(items) - 1)]
    while gaps:
        low, high = gaps.pop(0)
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return [items[i] for i in order]


def _best_and_worst(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Highest reward, lowest, second highest, ... each episode once."""
    ordered = sorted(rows, key=lambda row: -row["reward"])
    half = (len(ordered) + 1) // 2
    pairs = zip_longest(ordered[:half], reversed(ordered[half:]))
    return [row for row in chain.from_iterable(pairs) if row is not None]


def _label(path: Path) -> dict[str, Any]:
    kind, _, step = path.stem.partition("_")
    return {"held_out": kind == "eval", "step": int(step) if step.isdigit() else path.stem}


def _episode(row: dict[str, Any], strings: Strings) -> dict[str, Any]:
    states = replay(row["turns"])
    return {
        "task": row["task_id"],
        "index": row["index"],
        "reward": _number(row["reward"]),
        "seconds": _number(row["seconds"]),
        "failure": row["failure"],
        "answers": [
            {
                "question": answer["question"],
                "kind": answer["kind"],
                "gold": list(answer["gold"]),
                "answer": answer["answer"],
                "right": is_right(answer),
                "cause": explanation.cause,
                "why": explanation.text,
            }
            for answer, explanation in zip(row["answers"], explain(row), strict=True)
        ],
        "steps": [_step(turn, state, strings) for turn, state in zip(row["turns"], states, strict=True)],
    }


def _step(turn: dict[str, Any], state: State, strings: Strings) -> dict[str, Any]:
    record = turn["record"]
    return {
        "phase": record["phase"],
        "position": record["position"],
        "text": strings(record["text"]),
        "query": strings(record["query"]),
        "retrieved": [[entry_id, strings(text)] for entry_id, text in record["retrieved"]],
        "scratchpad": strings(record["scratchpad"]),
        "scratchpad_after": strings(state.scratchpad),
        "output": strings(record["output"]),
        "changes": [_change(change, strings) for change in state.changes],
        "cut": record["retrieved_cut"],
        "prompt_tokens": turn["prompt_tokens"],
        "output_tokens": turn["output_tokens"],
        "policy_version": turn["policy_version"],
        "finish_reason": turn["finish_reason"],
    }


def _change(change: Change, strings: Strings) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "id": change.entry_id,
        "text": strings(change.text),
        "old": strings(change.old),
        "outcome": change.outcome,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
