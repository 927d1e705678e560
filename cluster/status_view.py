"""`atommem status`: a run's status file for people, and the stacks of a run that hangs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rich.markup import escape

from cluster.console import console
from cluster.status import ASK, Status, read_status
from env.errors import UserError

WAIT_S = 120.0  # for the stacks of all nodes


def show_status(run: Path, stacks: bool) -> None:
    """Print what the run at a directory, or of a name, is doing. Raises UserError when there is no such run."""
    folder = run if run.is_dir() else Path(os.environ.get("ATOMMEM_RUNS", "runs")) / run
    status = read_status(folder)
    if status is None:
        raise UserError(f"{folder} holds no run that has started (no status.json)")
    _print(folder, status)
    if stacks:
        console.print(f"stacks: {_stacks(folder, status)}")


def _print(folder: Path, status: Status) -> None:
    now = time.time()
    console.print(
        f"[bold]{folder}[/]: {escape(status.phase)} for {now - status.since:.0f} s, "
        f"iteration {status.step} of {status.iterations}"
    )
    if status.is_stale:
        console.print(
            f"[red]no sign of life for {now - status.beat:.0f} s[/] from process {status.pid} on {status.host}: "
            "if it is gone, --resume goes on from the last checkpoint"
        )
    if status.alive:
        console.print("alive: " + ", ".join(f"{kind} {count}" for kind, count in status.alive.items()))
    if status.last:
        console.print("last: " + ", ".join(f"{key} {value:.3g}" for key, value in status.last.items()))
    for event in status.events:
        console.print(f"  {escape(event)}")


def _stacks(folder: Path, status: Status) -> Path:
    """Ask the run's own process, which reaches every node, and wait for its file."""
    if status.is_stale or status.phase.startswith(("ended", "stopped")):
        raise UserError(f"{folder}: its process is gone, there are no stacks to take")
    before = set((folder / "logs").glob("stacks-*"))
    (folder / ASK).touch()
    deadline = time.monotonic() + WAIT_S
    while not (new := set((folder / "logs").glob("stacks-*")) - before):
        if time.monotonic() > deadline:
            raise UserError(f"{folder}: no stacks within {WAIT_S:g} s; py-spy needs the right to trace processes")
        time.sleep(0.2)
    return new.pop()
