"""/v1/sessions/{id}/documents"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from cluster.serving.errors import Unprocessable
from cluster.serving.http.context import Rows, Shared, Who
from cluster.serving.http.events import EVENT_STREAM, stream
from cluster.serving.http.parameters import ChunkNumber, Number, SessionId
from cluster.serving.http.problems import responses
from cluster.serving.schemas import Chunk, Document, DocumentCreate, DocumentList, Line
from cluster.serving.views import document_view

router = APIRouter(prefix="/v1/sessions/{session_id}/documents", tags=["documents"])
_EVENTS: dict[str, Any] = {
    "description": "Events, see the schema `DocumentEvents`.",
    "content": EVENT_STREAM,
}
_TEXT_OR_JSON: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/plain": {"schema": {"type": "string", "example": "Anna Berg works at Solaria ."}},
            "application/json": {"schema": DocumentCreate.model_json_schema()},
        },
    }
}
Key = Annotated[str | None, Header(min_length=1, max_length=200, description="the same key: read only once")]


@router.post(
    "", response_class=Response, openapi_extra=_TEXT_OR_JSON,
    responses=responses(404, 409) | {200: _EVENTS, 202: {"model": Document}},
)  # fmt: skip
async def add(
    request: Request,
    session_id: SessionId,
    who: Who,
    shared: Shared,
    title: Annotated[Line, Query()] = "",
    background: Annotated[bool, Query(description="answer at once with 202")] = False,
    idempotency_key: Key = None,
) -> Response:
    """Read a text into memory: the body as it is (UTF-8), or JSON (`DocumentCreate`)."""
    body = await _body(request, title)
    text = body.text if body.role is None else f"{body.role}: {body.text}"
    document = await shared.agents.add_document(
        who.tenant, session_id, text, body.title, idempotency_key, background
    )
    if background:
        await shared.agents.start(who.tenant, session_id)
        return _accepted(document)
    return await stream(shared.agents.read(who.tenant, session_id, document.number))


async def _body(request: Request, title: str) -> DocumentCreate:
    raw = await request.body()
    try:
        if request.headers.get("content-type", "").split(";")[0].strip().lower() == "application/json":
            return DocumentCreate.model_validate_json(raw)
        text = raw.decode()
        if not text.strip():
            raise Unprocessable("the document is empty")
        return DocumentCreate(text=text, title=title)
    except UnicodeDecodeError as error:
        raise Unprocessable(f"the document is not UTF-8 text (byte {error.start})") from None
    except ValidationError as error:
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in error.errors()]) from None


def _accepted(document: Document) -> Response:
    return Response(document.model_dump_json(), 202, media_type="application/json")


@router.get("", responses=responses(404))
async def list_(session_id: SessionId, rows: Rows) -> DocumentList:
    """All documents and how far each has been read."""
    return DocumentList(items=[document_view(row) for row in await rows.list_documents(session_id)])


@router.get("/{number}", responses=responses(404))
async def get(session_id: SessionId, number: Number, rows: Rows) -> Document:
    """How far a document has been read."""
    return document_view(await rows.document(session_id, number))


@router.get("/{number}/chunks/{chunk}", responses=responses(404))
async def chunk(session_id: SessionId, number: Number, chunk: ChunkNumber, rows: Rows) -> Chunk:
    """The text of one chunk: the source of an entry."""
    return Chunk(document=number, chunk=chunk, text=await rows.chunk(session_id, number, chunk))


@router.get("/{number}/events", response_class=Response, responses=responses(404) | {200: _EVENTS})
async def events(
    session_id: SessionId,
    number: Number,
    who: Who,
    shared: Shared,
    last_event_id: Annotated[str | None, Header(pattern=r"^[0-9]{1,18}$", description="the last one seen")] = None,
) -> Response:
    """Events from the start, or after `Last-Event-ID`; a document that stopped half-way is read on."""
    return await stream(shared.agents.read(who.tenant, session_id, number, int(last_event_id or 0)))


@router.post("/{number}/cancel", responses=responses(404))
async def cancel(session_id: SessionId, number: Number, rows: Rows) -> Document:
    """Stop reading; what was read stays. Does nothing to a document that is done."""
    return document_view(await rows.set_document(session_id, number, state="cancelled"))


@router.post("/{number}/resume", status_code=202, responses=responses(404))
async def resume(session_id: SessionId, number: Number, rows: Rows, shared: Shared) -> Document:
    """Go on reading in the background, also after a cancel or a failure."""
    row = await rows.set_document(session_id, number, state="pending", error=None, background=True)
    await shared.agents.start(rows.tenant, session_id)
    return document_view(row)
