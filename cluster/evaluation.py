"""`atommem evaluate`: all cells of an evaluation through one set of engines and runners, task by task, resumable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from cluster.config import RunConfig
from cluster.console import console
from cluster.evaluation_tables import print_tables
from cluster.plan import Plan, plan
from cluster.recipes import dump, load_recipe
from cluster.rollouts import RolloutSide, rollout_side
from evaluation.cells import Cell
from evaluation.environments import method_environments
from evaluation.judging import judge_rows, needs_verdict
from evaluation.matrix_report import write_matrix_report
from evaluation.results import Results
from evaluation.rows import rows_of
from evaluation.tables import tables
from rollout.record import trajectory_to_json
from rollout.types import GroupRequest


@dataclass
class _Job:
    """What is left of one cell."""

    cell: Cell
    todo: list[int]


def evaluate(run: RunConfig) -> Path:
    """Run what is not finished yet, judge what is not judged, and write tables and report; returns the report."""
    planned, results = plan(run), Results(run.directory)
    results.claim(dump(run), planned.cells, planned.tasks)
    jobs = _jobs(planned, results)
    if any(job.todo for job in jobs):
        _run(run, planned, results, [job for job in jobs if job.todo])
    _judge(run, planned, results)
    return _write(run)


def report(directory: Path) -> Path:
    """Tables and report again from what is finished."""
    return _write(load_recipe(directory / "config.yaml", [f"run_dir={directory}"]))


def _write(run: RunConfig) -> Path:
    results = Results(run.directory)
    results.write_parquet()
    made = tables(results.rows(), run.evaluation)
    print_tables(made)
    return write_matrix_report(run.directory, run.evaluation, made)


def _jobs(planned: Plan, results: Results) -> list[_Job]:
    jobs = []
    for cell in planned.cells:
        tasks = planned.tasks[cell.suite]
        done = results.finished(cell.key)
        todo = [] if cell.unavailable else [index for index in range(len(tasks)) if index not in done]
        jobs.append(_Job(cell, todo))
        state = f"cannot run here: {cell.unavailable}" if cell.unavailable else f"{len(done)} of {len(tasks)} done"
        console.print(f"{cell.key}: {state}", highlight=False)
    return jobs


def _run(run: RunConfig, planned: Plan, results: Results, jobs: Sequence[_Job]) -> None:
    specs = {job.cell.key: job.cell.spec for job in jobs}
    first = run.model_copy(update={"model": jobs[0].cell.model})
    with rollout_side(first, partial(method_environments, specs)) as side:
        version = 0
        for model, of_model in groupby(jobs, key=lambda job: job.cell.model):
            if model != first.model or version:
                version += 1
                side.pool.update_weights(str(Path(model).resolve()), version)
            _run_model(planned, results, list(of_model), side, run.evaluation.seed)


def _run_model(planned: Plan, results: Results, jobs: Sequence[_Job], side: RolloutSide, seed: int) -> None:
    left = {job.cell.key: len(job.todo) for job in jobs}
    # Task by task, not cell by cell: variants share prompts, so the prefix cache serves them, and what a kill leaves
    # behind has as many tasks of every variant. Ids count in this order, so that neighbours go to different engines.
    places = sorted(((job.cell, index) for job in jobs for index in job.todo), key=lambda place: place[1])
    requests = [
        GroupRequest(number, planned.tasks[cell.suite][index], 1, cell.sampling, seed + index, cell.key)
        for number, (cell, index) in enumerate(places)
    ]
    for group in side.collector.run(requests):
        cell, index = places[group.group_id]
        task, [trajectory] = planned.tasks[cell.suite][index], group.trajectories
        rows = rows_of(cell, planned.suites[cell.suite], task, trajectory, f"{cell.key}/{index:05d}")
        results.add(cell.key, index, rows, trajectory_to_json(trajectory))
        left[cell.key] -= 1
        if not left[cell.key]:
            console.print(f"{cell.key}: finished", highlight=False)


def _judge(run: RunConfig, planned: Plan, results: Results) -> None:
    """Ask for the verdicts that are missing and keep them with their tasks."""
    if run.evaluation.judge is None:
        return
    files = list(_files(planned, results))
    waiting = [row for _, _, content in files for row in content["rows"] if needs_verdict(row)]
    judge_rows(waiting, planned.suites, run.evaluation.judge)
    for key, index, content in files:
        results.add(key, index, content["rows"], content["trajectory"])


def _files(planned: Plan, results: Results) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for cell in planned.cells:
        for index in results.indices(cell.key):
            content = results.read(cell.key, index)
            if any(needs_verdict(row) for row in content["rows"]):
                yield cell.key, index, content
