"""Server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse

from cluster.serving.errors import Refusal
from cluster.serving.http.problems import plain, problem
from cluster.serving.views import Event

_TEXT = {"type": "string"}
_EVENT = {"type": "object", "required": ["data"], "properties": {"event": _TEXT, "data": _TEXT, "id": _TEXT}}
EVENT_STREAM: dict[str, Any] = {"text/event-stream": {"schema": _EVENT}}  # for OpenAPI: the schema of one event


async def stream(events: AsyncIterator[Event]) -> StreamingResponse:
    """A response with the events. What is refused before the first one is an ordinary error, later an `error` event."""
    first = await anext(events)
    return StreamingResponse(
        _lines(first, events), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _lines(first: Event, rest: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    async with aclosing(rest):  # type: ignore[type-var]
        yield _line(first)
        try:
            async for event in rest:
                yield _line(event)
        except Refusal as refusal:
            yield _line(Event("error", problem(plain(refusal))))


def _line(event: Event) -> bytes:
    number = None if event.id is None else str(event.id)
    return format_sse_event(data_str=event.data.model_dump_json(), event=event.name, id=number)
