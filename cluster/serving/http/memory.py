"""/v1/sessions/{id}/memory, /log and /questions"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from cluster.serving.http.context import Rows, Shared, Who
from cluster.serving.http.events import EVENT_STREAM, stream
from cluster.serving.http.parameters import After, EntryId, Expected, Limit, SessionId, Version
from cluster.serving.http.problems import responses
from cluster.serving.schemas import (
    Answer,
    Commit,
    EntryWrite,
    Log,
    Memory,
    QuestionCreate,
    ScratchpadWrite,
    SearchResult,
    Text,
)
from cluster.serving.views import commit_view, entry_view
from env.operations import Create, Delete, Scratchpad, Update

router = APIRouter(prefix="/v1/sessions/{session_id}", tags=["memory"])
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with `stream: true` events, see the schema `QuestionEvents`.",
        "content": EVENT_STREAM,
        "model": Answer,
    }
}


@router.post("/questions", response_model=None, responses=responses(404, 409) | _ANSWER, tags=["questions"])
async def ask(session_id: SessionId, body: QuestionCreate, who: Who, shared: Shared) -> Response:
    """Ask; the agent may search its memory several times before it answers."""
    events = shared.agents.ask(who.tenant, session_id, body.question)
    if body.stream:
        return await stream(events)
    last = [event async for event in events][-1]
    return Response(last.data.model_dump_json(), media_type="application/json")


@router.get("/memory", responses=responses(404))
async def memory(
    session_id: SessionId, rows: Rows, response: Response, version: Version = None, after: After = 0, limit: Limit = 100
) -> Memory:
    """Entries in order of id, and the scratchpad: now, or as they were at a past version."""
    if version is None:
        session, found = await rows.list_entries(session_id, after, limit + 1)
        version, scratchpad = session.version, session.scratchpad
        response.headers["ETag"] = f'"{version}"'
    else:
        scratchpad, found = await rows.past(session_id, version, after, limit + 1)
    more = found[limit - 1].entry_id if len(found) > limit else None
    shown = [entry_view(row) for row in found[:limit]]
    return Memory(version=version, scratchpad=scratchpad, entries=shown, next=more)


@router.get("/memory/search", responses=responses(404))
async def search(
    session_id: SessionId,
    who: Who,
    shared: Shared,
    q: Annotated[Text, Query()],
    k: Annotated[int, Query(ge=1, le=100)] = 10,
) -> SearchResult:
    """The k entries most similar to a text."""
    return await shared.agents.search(who.tenant, session_id, q, k)


@router.post("/memory/entries", status_code=201, responses=responses(404, 409, 412))
async def add_entry(session_id: SessionId, body: EntryWrite, who: Who, shared: Shared, expected: Expected) -> Commit:
    """Add an entry by hand."""
    return await shared.agents.edit(who.tenant, session_id, Create(body.content), expected)


@router.put("/memory/entries/{entry_id}", responses=responses(404, 409, 412))
async def write_entry(
    session_id: SessionId, entry_id: EntryId, body: EntryWrite, who: Who, shared: Shared, expected: Expected
) -> Commit:
    """Rewrite an entry by hand."""
    return await shared.agents.edit(who.tenant, session_id, Update(entry_id, body.content), expected)


@router.delete("/memory/entries/{entry_id}", responses=responses(404, 409, 412))
async def delete_entry(
    session_id: SessionId, entry_id: EntryId, who: Who, shared: Shared, expected: Expected
) -> Commit:
    """Remove an entry by hand; the log keeps what it said until the session is deleted."""
    return await shared.agents.edit(who.tenant, session_id, Delete(entry_id), expected)


@router.put("/memory/scratchpad", responses=responses(404, 409, 412))
async def write_scratchpad(
    session_id: SessionId, body: ScratchpadWrite, who: Who, shared: Shared, expected: Expected
) -> Commit:
    """Rewrite the scratchpad by hand."""
    return await shared.agents.edit(who.tenant, session_id, Scratchpad(body.content), expected)


@router.get("/log", responses=responses(404))
async def log(session_id: SessionId, rows: Rows, after: After = 0, limit: Limit = 100) -> Log:
    """All that ever happened to the memory, commit by commit."""
    found = await rows.log(session_id, after, limit + 1)
    more = found[limit - 1].version if len(found) > limit else None
    return Log(items=[commit_view(row) for row in found[:limit]], next=more)
