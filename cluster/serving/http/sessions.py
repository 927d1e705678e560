"""/v1/sessions"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from cluster.serving.errors import Unprocessable
from cluster.serving.http.context import Rows, Shared
from cluster.serving.http.parameters import Limit, SessionId, known_form
from cluster.serving.http.problems import responses
from cluster.serving.schemas import NO_NUL, Session, SessionCreate, SessionFork, SessionList, SessionOptions
from cluster.serving.views import session_view

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])


@router.post("", status_code=201, responses=responses())
async def create(body: SessionCreate, rows: Rows, shared: Shared) -> Session:
    """Make a session with an empty memory."""
    prompts = [shared.config.env.prompt, *shared.config.prompts]
    if body.options.prompt is not None and body.options.prompt not in prompts:
        raise Unprocessable(f"options.prompt is {body.options.prompt!r}: this server has {', '.join(prompts)}")
    return session_view(await new_session(rows, shared, body.name, body.options))


async def new_session(rows: Rows, shared: Shared, name: str, options: SessionOptions):  # type: ignore[no-untyped-def]
    """The row of a new session."""
    return await rows.create_session(name, options.model_dump(), shared.config.limits.sessions)


@router.get("", responses=responses(404))
async def list_(
    rows: Rows,
    limit: Limit = 100,
    after: Annotated[str | None, Query(description="id of the last session of the page before")] = None,
    name: Annotated[str | None, Query(max_length=200, pattern=NO_NUL)] = None,
) -> SessionList:
    """The tenant's sessions, newest first."""
    found = await rows.list_sessions(limit + 1, None if after is None else known_form(after), name)
    more = found[limit - 1].id if len(found) > limit else None
    return SessionList(items=[session_view(row) for row in found[:limit]], next=more)


@router.get("/{session_id}", responses=responses(404))
async def get(session_id: SessionId, rows: Rows, response: Response) -> Session:
    """One session; its version is the entity tag."""
    row = await rows.session(session_id)
    response.headers["ETag"] = f'"{row.version}"'
    return session_view(row)


@router.delete("/{session_id}", status_code=204, responses=responses(404))
async def delete(session_id: SessionId, rows: Rows, shared: Shared) -> None:
    """Remove the session with its texts, entries, vectors and log."""
    await rows.delete_session(session_id)
    await shared.agents.forget(session_id)


@router.post("/{session_id}/fork", status_code=201, responses=responses(404))
async def fork(session_id: SessionId, body: SessionFork, rows: Rows, shared: Shared) -> Session:
    """A copy that goes its own way from here."""
    return session_view(await rows.fork_session(session_id, body.name, shared.config.limits.sessions))
