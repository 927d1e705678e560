"""Health, metrics and deployments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Row, text

from cluster.serving.errors import DatabaseDown, Unprocessable
from cluster.serving.http.context import Admin, Shared
from cluster.serving.http.problems import responses
from cluster.serving.schemas import Deployment, DeploymentCreate, Health

router = APIRouter(tags=["operation"])
_TEXT: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string"}}}}


@router.get("/healthz")
async def healthz() -> Health:
    """This process lives."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Health}})
async def readyz(shared: Shared, response: Response) -> Health:
    """Requests can be answered: the database does, and an engine serves a checkpoint."""
    parts = {"database": "ok", "engine": "no checkpoint is active"}
    try:
        async with shared.database.read() as connection:
            await connection.execute(text("SELECT 1"))
        rows = await shared.deployments.all()
        if active := [row for row in rows if row.state == "active"]:
            parts["engine"] = f"ok, version {active[-1].version}"
    except DatabaseDown as error:
        parts["database"] = str(error)
    ready = all(state.startswith("ok") for state in parts.values())
    response.status_code = 200 if ready else 503
    return Health(status="ok" if ready else "unavailable", parts=parts)


@router.get("/metrics", response_class=Response, responses={200: _TEXT})
async def metrics() -> Response:
    """This ingress replica's counters, for Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/deployments", responses=responses(404))
async def deployments(who: Admin, shared: Shared) -> list[Deployment]:
    """All checkpoints so far, in order."""
    return [_view(row) for row in await shared.deployments.all()]


@router.post("/v1/deployments", status_code=202, responses=responses(404))
async def deploy(body: DeploymentCreate, who: Admin, shared: Shared) -> Deployment:
    """Serve another checkpoint: engines load it between requests. One that does not load leaves the old one serving."""
    if "\0" in body.checkpoint or not (Path(body.checkpoint) / "config.json").is_file():
        raise Unprocessable(f"checkpoint {body.checkpoint[:200]!r}: no model folder (with a config.json) on the server")
    return _view(await shared.deployments.add(body.checkpoint))


def _view(row: Row[Any]) -> Deployment:
    return Deployment.model_validate({name: row._mapping[name] for name in Deployment.model_fields})
