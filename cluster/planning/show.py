"""A plan as people read it: memory, what fits, seconds of an iteration, days."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from cluster.config import RunConfig
from cluster.console import console
from cluster.planning.hardware import GB
from cluster.planning.memory import Fit
from cluster.planning.plan import Plan, plan

if TYPE_CHECKING:
    from cluster.planning.probe import Probe  # its parts take seconds to import


def plan_and_show(
    config: RunConfig, *, gpu: str, nodes: int, gpus: int, steps: int | None, output_tokens: float | None, sft: bool
) -> bool:
    """What `atommem plan` does; returns whether the recipe fits."""
    if gpu == "cpu":
        from cluster.planning.probe import probe

        show_probe(config, probe(config), steps or config.loop.iterations)
        return True
    made = plan(config, gpu=gpu, nodes=nodes, gpus=gpus, output_tokens=output_tokens, sft=sft)
    show(made, steps or config.loop.iterations)
    return made.fits


def show(made: Plan, steps: int) -> None:
    """Print a whole plan; ``steps`` is what the days are for."""
    work, phases = made.work, made.phases
    console.print(
        f"{escape(made.config.name)}: {made.shape.parameters / 1e9:.2f} billion parameters; an iteration is "
        f"{work.episodes} episodes of {work.turns:.1f} turns of {work.prompt:.0f} + {work.output:.0f} tokens: "
        f"{work.tokens / 1e6:.2f} M tokens to learn from"
    )
    console.print(_memory_table(made))
    if made.engine is not None:
        console.print(f"an engine's cache holds {made.windows:.1f} whole windows; it runs {made.running:.0f} at once")
    console.print(
        f"seconds an iteration: rollout {phases.rollout:.0f}, learn {phases.learn:.0f}, sync {phases.sync:.1f}: "
        f"[bold]{phases.in_turn:.0f}[/] in turn, [bold]{phases.overlapped:.0f}[/] overlapped (rollout.max_staleness=1)"
    )
    console.print(
        f"{steps} iterations: [bold]{phases.days(steps, False):.1f}[/] days in turn, "
        f"[bold]{phases.days(steps, True):.1f}[/] overlapped"
    )
    for advice in made.advice:
        console.print(f"[red]does not fit:[/] {escape(advice)}")
    if made.fits:
        console.print("[green]fits[/]")


def show_probe(config: RunConfig, probe: Probe, steps: int) -> None:
    """Print what this machine's CPUs need for an iteration, from a probe."""
    episodes = config.rollout.tasks_per_batch * config.rollout.group_size
    phases = probe.phases(episodes)
    console.print(
        f"{escape(config.name)} on this machine: an iteration is {episodes} episodes of "
        f"{probe.tokens_per_episode:.0f} tokens; rollout {phases.rollout:.1f}, learn {phases.learn:.1f}, sync "
        f"{phases.sync:.1f}: [bold]{phases.in_turn:.1f}[/] s in turn; {steps} iterations: "
        f"[bold]{phases.days(steps, False) * 24:.2f}[/] hours"
    )


def _memory_table(plan: Plan) -> Table:
    table = Table("GB per GPU", "learner", "engine", title="memory")
    learner, engine = plan.learner, plan.engine
    parts = dict.fromkeys([*learner.parts, *(engine.parts if engine else {})])
    for part in parts:
        table.add_row(part, _cell(learner, part), _cell(engine, part) if engine else "-")
    table.add_row("all", _total(learner), _total(engine) if engine else "-")
    return table


def _cell(fit: Fit, part: str) -> str:
    return f"{fit.parts[part] / GB:.1f}" if part in fit.parts else "-"


def _total(fit: Fit) -> str:
    colour = "green" if fit.fits else "red"
    return f"[{colour}]{fit.total / GB:.1f} of {fit.device / GB:.0f}[/]"
