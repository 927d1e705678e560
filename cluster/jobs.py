"""`atommem submit`: a run as a Ray job. Submitting the same name again follows it, or goes on where it ended."""

from __future__ import annotations

import asyncio
import logging
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from cluster.config import RunConfig
from cluster.console import console
from env.config import Section
from env.errors import UserError

JOB_FILE = Path("ray_job.yaml")
_AGENT_TIMEOUT_S = 120.0  # how long a head that has just started may take until it accepts jobs


class JobFile(Section):
    """`ray_job.yaml`: arguments of the Jobs SDK's `submit_job`."""

    entrypoint: str
    entrypoint_num_cpus: float = Field(0.0, ge=0)
    entrypoint_num_gpus: float = Field(0.0, ge=0)
    entrypoint_memory: int | None = Field(None, ge=1)
    entrypoint_resources: dict[str, float] = {}
    runtime_env: dict[str, Any] = {}
    metadata: dict[str, str] = {}

    @classmethod
    def read(cls, path: Path) -> JobFile:
        """Read and check a job file; `working_dir` is taken relative to it. Raises UserError."""
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
            job = cls.model_validate(values)
        except (OSError, yaml.YAMLError, ValidationError) as error:
            raise UserError(f"{path} is no job file: {' '.join(str(error).split())}") from error
        folder = job.runtime_env.get("working_dir")
        if not isinstance(folder, str) or "://" in folder:
            return job
        environment = {**job.runtime_env, "working_dir": str((path.parent / folder).resolve())}
        return job.model_copy(update={"runtime_env": environment})

    def arguments(self, config: RunConfig, recipe: Path, overrides: Sequence[str]) -> dict[str, Any]:
        """Keyword arguments of `submit_job`, less the id. Raises UserError when the job would not see the recipe."""
        settings = shlex.join([word for override in overrides for word in ("--set", override)])
        values = self.model_dump(exclude_none=True)
        seen = shlex.quote(self._seen(recipe))
        values["entrypoint"] = self.entrypoint.format(recipe=seen, overrides=settings).strip()
        values["metadata"] = {**self.metadata, "run": config.name, "recipe": str(recipe)}
        return values

    def _seen(self, recipe: Path) -> str:
        """The recipe's path as the job sees it: relative to the folder that goes with it."""
        folder = self.runtime_env.get("working_dir")
        if folder is None or "://" in folder:
            return str(recipe)
        try:
            return str(recipe.resolve().relative_to(folder))
        except ValueError:
            raise UserError(f"{recipe} lies outside {folder}, all that the job takes along (working_dir)") from None


def submit(
    config: RunConfig, recipe: Path, overrides: Sequence[str], *, address: str, job_file: Path, follow: bool
) -> bool:
    """Submit a run, or find the job that runs it already. With ``follow``, print its log until it ends.

    Returns False when a followed job has failed. Raises UserError when no cluster answers at ``address``.
    """
    job = JobFile.read(job_file).arguments(config, recipe, overrides)
    client = _client(address)
    running, next_id = find_job(_statuses(client), config.name)
    job_id = running or _submitted(client, submission_id=next_id, **job)
    console.print(f"{'already running' if running else 'submitted'}: job {job_id} at {address}")
    return _followed(client, job_id) if follow else True


def find_job(statuses: dict[str, bool], name: str) -> tuple[str | None, str]:
    """The job of a run that has not ended, if there is one, and the id for the next.

    Args:
        statuses: of all jobs, whether each has ended.
        name: of the run; its jobs are called ``name``, ``name.2``, ``name.3`` ...
    """
    number, job_id = 1, name
    while job_id in statuses:
        if not statuses[job_id]:
            return job_id, job_id
        number += 1
        job_id = f"{name}.{number}"
    return None, job_id


def _client(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"--address {address}: no Ray dashboard answers there ({first})") from error
    logging.getLogger("ray").setLevel(logging.WARNING)  # it lists every file that stays here; the client has set INFO
    return client


def _submitted(client: Any, **job: Any) -> str:
    """Submit; wait for a head whose job agent has not started yet. Raises UserError when Ray refuses the job."""
    deadline = time.monotonic() + _AGENT_TIMEOUT_S
    while True:
        try:
            return str(client.submit_job(**job))
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                lines = str(error).strip().splitlines()
                raise UserError(f"Ray did not take the job {job['submission_id']}: {lines[-1]}") from error
            time.sleep(1.0)


def _statuses(client: Any) -> dict[str, bool]:
    return {job.submission_id: job.status.is_terminal() for job in client.list_jobs() if job.submission_id}


def _followed(client: Any, job_id: str) -> bool:
    """Print the log as it grows; what ends by Ctrl-C is the following, not the job."""
    try:
        asyncio.run(_print_log(client, job_id))
    except KeyboardInterrupt:
        console.print(f"\njob {job_id} goes on; the same command follows it again")
        return True
    info = client.get_job_info(job_id)
    console.print(f"job {job_id}: {str(info.status).lower()}{f' ({info.message})' if info.message else ''}")
    return str(info.status) == "SUCCEEDED"


async def _print_log(client: Any, job_id: str) -> None:
    async for lines in client.tail_job_logs(job_id):
        print(lines, end="", flush=True)
