"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cluster.serving.errors import DatabaseDown, Refusal, refusals
from cluster.serving.schemas import Problem

logger = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
_TITLES = {
    400: "Malformed", 401: "Unauthorized", 403: "Forbidden", 404: "Not found", 409: "Conflict",
    412: "Precondition failed", 413: "Too large", 422: "Unprocessable", 429: "Too many", 503: "Unavailable",
}  # fmt: skip


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: these statuses answer with a problem document; some can come anywhere."""
    always = (400, 401, 403, 413, 422, 429, 503)
    return {
        status: {"description": _TITLES[status], "content": {MEDIA_TYPE: {"schema": _SCHEMA}}}
        for status in sorted({*always, *statuses})
    }


_SCHEMA = {"$ref": "#/components/schemas/Problem"}


def problem(refusal: Refusal) -> Problem:
    """What a client is told."""
    error = {"message": refusal.detail, "type": refusal.title.lower().replace(" ", "_"), "code": str(refusal.status)}
    return Problem(title=refusal.title, status=refusal.status, detail=refusal.detail, error=error)


def problem_of(refusal: Refusal) -> Response:
    """The response for a refusal."""
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    return _response(problem(refusal), headers)


def plain(refusal: Refusal) -> Refusal:
    """A refusal as it was raised: Ray wraps what another actor raises."""
    return getattr(refusal, "cause", None) or refusal


def _response(body: Problem, headers: Any = None) -> Response:
    content = body.model_dump_json(exclude_none=True)
    return Response(content, body.status, headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Give an application these error answers."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> Response:
        return problem_of(plain(error))

    @app.exception_handler(DatabaseDown)
    async def database_down(request: Request, error: DatabaseDown) -> Response:
        logger.warning("database: %s", error)
        try:
            with refusals():
                raise error
        except Refusal as refusal:
            return problem_of(refusal)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        title = HTTPStatus(error.status_code).phrase
        return _response(Problem(title=title, status=error.status_code, detail=str(error.detail)), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [{"loc": list(item["loc"]), "msg": item["msg"]} for item in error.errors()]
        where = ".".join(map(str, errors[0]["loc"])) if errors else "request"
        detail = f"{where}: {errors[0]['msg']}" if errors else "invalid request"
        return _response(Problem(title="Unprocessable", status=422, detail=detail, errors=errors))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        logger.exception("unexpected error", exc_info=error)
        return _response(Problem(title="Internal error", status=500, detail="the server made a mistake; it is logged"))
