"""Joining a Ray cluster, or starting a private one for the length of a command."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from cluster.config import RayConfig
from env.errors import UserError

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray in the entrypoint of a job


@contextmanager
def ray_session(config: RayConfig) -> Iterator[None]:
    """Ray for the length of the block; one that is already connected is used and left as it is.

    Raises UserError when the cluster at `ray.address` cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    _connect(config)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(config: RayConfig) -> None:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not config.log_to_driver:
        logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    address = config.address or ("auto" if JOB in os.environ else None)
    quiet = {"logging_level": logging.ERROR, "log_to_driver": config.log_to_driver}
    if address is not None:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError) as error:
            raise UserError(f"ray.address is {address!r}: no Ray cluster answers there ({error})") from error
        return
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # 30 are too few for a machine that is busy
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a private Ray listens on this machine alone
    os.environ.setdefault("RAY_task_events_report_interval_ms", "0")  # no record of every turn: nobody reads it here
    store = None if config.object_store_mb is None else config.object_store_mb * 2**20
    ray.init(
        address="local", num_cpus=config.num_cpus, object_store_memory=store, include_dashboard=False,
        _node_ip_address="127.0.0.1", **quiet,
    )
