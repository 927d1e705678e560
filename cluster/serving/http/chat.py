"""/v1/chat/completions and /v1/models, as OpenAI's clients call them."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse

from cluster.serving.chat_schemas import (
    ChatChoice,
    ChatChoiceMessage,
    ChatChunk,
    ChatCompletion,
    ChatMessage,
    ChatRequest,
)
from cluster.serving.errors import NotFound, Unprocessable
from cluster.serving.http.context import Context, Rows, Shared, Who
from cluster.serving.http.events import EVENT_STREAM
from cluster.serving.http.parameters import known_form
from cluster.serving.http.problems import responses
from cluster.serving.http.sessions import new_session
from cluster.serving.repository import Repository
from cluster.serving.schemas import Answer, ModelCard, ModelList, SessionOptions

router = APIRouter(prefix="/v1", tags=["OpenAI"])
_COMPLETION: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The completion; with `stream: true` events of `ChatChunk`.",
        "content": EVENT_STREAM,
        "model": ChatCompletion,
    }
}


@router.get("/models", responses=responses())
async def models(who: Who, shared: Shared) -> ModelList:
    """The one model, at its version."""
    return ModelList(data=await _cards(shared))


@router.get("/models/{name}", responses=responses(404))
async def model(name: str, who: Who, shared: Shared) -> ModelCard:
    """The one model, if that is its name."""
    cards = await _cards(shared)
    if not cards or cards[0].id != name:
        raise NotFound(f"no model {name[:80]!r}")
    return cards[0]


async def _cards(shared: Context) -> list[ModelCard]:
    name = shared.config.name
    return [
        ModelCard(id=name, created=int(row.created_at), version=row.version, checkpoint=row.checkpoint)
        for row in await shared.deployments.all()
        if row.state == "active"
    ]


@router.post("/chat/completions", response_model=None, responses=responses(404, 409) | _COMPLETION)
async def complete(
    body: ChatRequest,
    who: Who,
    rows: Rows,
    shared: Shared,
    x_session_id: Annotated[str | None, Header(description="id of the session that answers")] = None,
) -> Response:
    """Ask the last message; those before it are read into memory, each once."""
    if body.model != shared.config.name:
        raise NotFound(f"no model {body.model[:80]!r}: this server has {shared.config.name!r}")
    spoken = [message for message in body.messages if message.role in ("user", "assistant")]
    if not spoken or spoken[-1].role != "user" or not spoken[-1].text.strip():
        raise Unprocessable("messages: the last one must be the user's, with a text")
    *earlier, last = spoken
    async with _session(rows, shared, x_session_id, body.user) as session_id:
        await _remember(shared, who.tenant, session_id, earlier)
        answer = [e.data async for e in shared.agents.ask(who.tenant, session_id, last.text.strip(), True)][-1]
    assert isinstance(answer, Answer)
    completion = _completion(answer, session_id)
    if not body.stream:
        return Response(completion.model_dump_json(), media_type="application/json")
    with_usage = body.stream_options is not None and body.stream_options.include_usage
    return StreamingResponse(_chunks(completion, with_usage), media_type="text/event-stream")


@asynccontextmanager
async def _session(
    rows: Repository, shared: Context, session_id: str | None, user: str | None
) -> AsyncIterator[str]:
    """The session that a request names, or one of its own that ends with it."""
    if session_id is not None:
        yield known_form(session_id)
        return
    name = f"user:{user}"
    if user is not None and (known := await rows.list_sessions(1, None, name)):
        yield known[0].id
        return
    made = await new_session(rows, shared, name if user is not None else "", SessionOptions())
    try:
        yield made.id
    finally:
        if user is None:
            await rows.delete_session(made.id)
            await shared.agents.forget(made.id)


async def _remember(shared: Context, tenant: str, session_id: str, earlier: Sequence[ChatMessage]) -> None:
    """Read the turns of the conversation so far; one that this session has read before is not read again."""
    history = hashlib.sha256()
    number = 0
    for message in earlier:
        history.update(json.dumps([message.role, message.text]).encode())
        if message.text.strip():
            key = f"chat:{history.hexdigest()}"
            text = f"{message.role}: {message.text}"
            number = (await shared.agents.add_document(tenant, session_id, text, "", key, False)).number
    if number:
        async for _ in shared.agents.read(tenant, session_id, number):
            pass


def _completion(answer: Answer, session_id: str) -> ChatCompletion:
    return ChatCompletion(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=answer.model,
        choices=[ChatChoice(message=ChatChoiceMessage(content=answer.answer or ""))],
        usage=answer.usage,
        memory={
            "session": session_id,
            "version": answer.version,
            "entries": [entry.model_dump() for entry in answer.entries],
        },
    )


async def _chunks(completion: ChatCompletion, with_usage: bool) -> AsyncIterator[bytes]:
    """The answer is given as a whole once it is committed: role, content, end, and usage where it is asked for."""
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": ""}, None),
        ({"content": completion.choices[0].message.content}, None),
        ({}, "stop"),
    ]
    shared = {"id": completion.id, "created": completion.created, "model": completion.model}
    for delta, reason in deltas:
        chunk = ChatChunk(**shared, choices=[{"index": 0, "delta": delta, "finish_reason": reason}])
        yield format_sse_event(data_str=chunk.model_dump_json())
    if with_usage:
        yield format_sse_event(data_str=ChatChunk(**shared, choices=[], usage=completion.usage).model_dump_json())
    yield format_sse_event(data_str="[DONE]")
