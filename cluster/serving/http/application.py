"""The HTTP application: routes, limits, errors, OpenAPI."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from cluster.serving.http import chat, documents, memory, operations, playground, problems, sessions
from cluster.serving.http.context import Context
from cluster.serving.http.limits import Door
from cluster.serving.http.metrics import Counted
from cluster.serving.schemas import DocumentEvents, Problem, QuestionEvents

_DESCRIPTION = """Agents with a memory that lasts. Make a session, let it read documents of any length, ask it
questions hours later, see what it remembers and from where, correct it, or delete it."""


def make_app(context: Context) -> FastAPI:
    """The application of one ingress replica."""
    app = FastAPI(title="AtomMem", version="1", description=_DESCRIPTION)
    app.state.context = context
    for part in (sessions, documents, memory, chat, operations, playground):
        app.include_router(part.router)
    problems.install(app)
    app.add_middleware(Door, config=context.config)
    app.add_middleware(Counted)
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """Add the schemas that no route mentions: problems and events."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schemas = made()["components"]["schemas"]
            for model in (Problem, DocumentEvents, QuestionEvents):
                own = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas |= own.pop("$defs", {}) | {model.__name__: own}
            _without_default_errors(app.openapi_schema or {})
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _without_default_errors(document: dict[str, Any]) -> None:
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
