"""`atommem serve`, `deploy` and `keys create`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster.config import RayConfig
from cluster.recipes import validated
from cluster.serving.config import ServingConfig
from env.errors import UserError

DEFAULT = Path(__file__).parents[1] / "serve.yaml"
_DEPLOY_TIMEOUT_S = 300


def load_config(path: Path | None, checkpoint: str | None, overrides: Sequence[str]) -> ServingConfig:
    """The `args` of the application in a Serve file; without a file, a run's checkpoint brings its run's settings.

    Raises UserError.
    """
    values = _args(path or DEFAULT)
    if path is None and checkpoint is not None:
        values |= _of_run(Path(checkpoint))
    if checkpoint is not None:
        values["model"] = checkpoint
    return validated(ServingConfig, values, overrides, str(path or checkpoint or DEFAULT))


def _args(path: Path) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8"))["applications"][0]["args"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, IndexError) as error:
        raise UserError(f"{path}: no Serve configuration with applications[0].args ({error!r})") from None


def _of_run(checkpoint: Path) -> dict[str, Any]:
    """What a policy was trained with, if `checkpoint` is runs/<name>/checkpoints/<step>."""
    file = checkpoint.resolve().parents[1] / "config.yaml" if len(checkpoint.resolve().parents) > 1 else checkpoint
    if not file.is_file() or checkpoint.resolve().parent.name != "checkpoints":
        return {}
    run = yaml.safe_load(file.read_text(encoding="utf-8"))
    sampling = {**run["rollout"]["sampling"], "temperature": 0.0, "top_p": 1.0}
    return {"env": run["env"], "sampling": sampling, "engine": run["rollout"]["engine"]}


def serve_forever(config: ServingConfig, ray: RayConfig) -> None:
    """Serve on a Ray of our own (or the one at `ray.address`) until SIGINT or SIGTERM. Raises UserError."""
    model = Path(config.model)
    if not (model / "config.json").is_file():
        raise UserError(f"checkpoint '{config.model}': no model folder (with a config.json)")
    config = config.model_copy(update={"model": str(model.resolve()), "database": _absolute(config)})
    from ray import serve

    from cluster.serving.application import build
    from cluster.session import ray_session

    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # its INFO speaks of Serve's own parts
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ray_session(ray):
        serve.start(proxy_location="HeadOnly", http_options={"host": config.http.host, "port": config.http.port})
        try:
            serve.run(build(config), name="atommem", route_prefix="/")
        except RuntimeError as error:
            raise UserError(f"the endpoint did not start: {' '.join(str(error).split())}") from error
        note = "" if config.http.keys else " (this machine only: no API keys)"
        print(f"serving {config.model}\nhttp://{config.http.host}:{config.http.port}{note}", flush=True)
        stop.wait()
        serve.shutdown()


def _absolute(config: ServingConfig) -> Any:
    """The database's file seen from wherever a replica runs."""
    prefix = "sqlite+aiosqlite:///"
    if not config.database.url.startswith(prefix):
        return config.database
    file = os.path.abspath(config.database.url.removeprefix(prefix))
    return config.database.model_copy(update={"url": prefix + file})


def deploy(checkpoint: Path, url: str, key: str | None) -> str:
    """Ask a running server for another checkpoint and wait until it serves it. Raises UserError when it does not."""
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
            wanted = _checked(client.post("/v1/deployments", json={"checkpoint": str(checkpoint.resolve())}))
            deadline = time.monotonic() + _DEPLOY_TIMEOUT_S
            while time.monotonic() < deadline:
                rows = {row["version"]: row for row in _checked(client.get("/v1/deployments"))}
                row = rows[wanted["version"]]
                if row["state"] == "refused":
                    raise UserError(f"checkpoint {checkpoint} is refused, the old one serves on: {row['reason']}")
                if row["state"] != "pending":
                    return f"version {row['version']} is {row['state']}"
                time.sleep(0.5)
    except httpx.HTTPError as error:
        raise UserError(f"no answer from {url}: {error}") from error
    raise UserError(f"checkpoint {checkpoint}: still pending after {_DEPLOY_TIMEOUT_S} s")


def _checked(response: Any) -> Any:
    if response.is_error:
        raise UserError(f"the server refused it ({response.status_code}): {response.json().get('detail')}")
    return response.json()


def create_key(config: ServingConfig, tenant: str, admin: bool) -> str:
    """A new API key in the configuration's database."""
    from cluster.serving.database import Database
    from cluster.serving.keys import Keys

    async def create() -> str:
        database = Database(config.database)
        await database.migrate()
        try:
            return await Keys(database).create(tenant, admin)
        finally:
            await database.close()

    return asyncio.run(create())
