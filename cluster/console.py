"""What a person sees while a run goes on: one line per iteration, a spinner in between, a table of evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rollout.types import Trajectory

console = Console(soft_wrap=True)
PHASES = ("rollout", "learn", "sync", "checkpoint", "evaluate")
SHOWN_OPERATIONS = ("create", "read", "update", "delete")


def iteration_line(row: Mapping[str, float], total: int) -> str:
    """Reward, exact match, operations per step, tokens/s and the seconds of each phase, in one line of markup."""
    operations = " ".join(f"{kind[0].upper()} {row[f'operations/{kind}']:.2f}" for kind in SHOWN_OPERATIONS)
    phases = " ".join(f"{phase} {row[f'time/{phase}']:.1f}" for phase in PHASES if row.get(f"time/{phase}"))
    failed = sum(value for key, value in row.items() if key.startswith("failures/"))
    return (
        f"[bold]{int(row['step']):>4}/{total}[/] reward [cyan]{row['reward/mean']:.3f}[/] em [cyan]{row['em']:.3f}[/] "
        f"ops/step {operations} invalid {row['invalid_rate']:.1%} | {row['speed/output_tokens_per_s']:.0f} tok/s | "
        f"{phases} s" + (f" | [red]{failed:.0f} failed[/]" if failed else "")
    )


def evaluation_line(step: int, summary: Mapping[str, Any]) -> str:
    """The held-out scores with their 95% intervals."""
    scores = " ".join(f"{name} [green]{_interval(summary[name])}[/]" for name in ("em", "f1") if name in summary)
    return f"[bold]evaluation[/] after {step}: {scores} on {summary['tasks']} held-out tasks"


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner while something takes long; nothing on a pipe."""
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


def print_episode(trajectory: Trajectory) -> None:
    """One episode step by step: what was shown, written, and what became of each operation."""
    for number, turn in enumerate(trajectory.turns, 1):
        record = turn.record
        console.rule(f"step {number}: {record.phase} {record.position + 1}")
        console.print(f"[dim]{escape(record.text)}[/]")
        if record.scratchpad:
            console.print(f"[yellow]scratchpad[/] {escape(record.scratchpad)}")
        if record.query is not None:
            console.print(f"[yellow]retrieved for[/] {escape(record.query)}")
            for entry_id, content in record.retrieved:
                console.print(f"  {entry_id}: {escape(content)}")
        console.print(f"[bold]{escape(record.output)}[/]")
        for operation in record.operations:
            target = "" if operation.entry_id is None else f" {operation.entry_id}"
            console.print(f"  -> {operation.kind}{target}: {escape(operation.outcome)}", highlight=False)
    _print_answers(trajectory)


def _print_answers(trajectory: Trajectory) -> None:
    table = Table("question", "gold", "answer", "em", title=f"reward {trajectory.reward:.3f}")
    for answer in trajectory.answers:
        texts = answer.question, " | ".join(answer.gold), "-" if answer.answer is None else answer.answer
        table.add_row(*map(escape, texts), f"{answer.scores.get('em', 0):.0f}")
    console.print(table)
    if trajectory.failure:
        console.print(f"[red]failed ({trajectory.failure.boundary}):[/] {escape(trajectory.failure.message)}")


def _interval(value: Mapping[str, Any]) -> str:
    if value.get("low") is None:
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} \\[{value['low']:.3f}, {value['high']:.3f}]"
