"""What the serving side refuses, each with its HTTP status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from env.errors import EmbeddingError, TaskError
from rollout.errors import EngineError, PromptTooLongError

RETRY_AFTER_S = 2


class DatabaseDown(RuntimeError):
    """The database does not answer; nothing was committed, the next request tries again."""


class Refusal(Exception):
    """A request that cannot be served: `status` and one sentence. Travels between Serve's actors as it is."""

    status = 400
    title = "Bad request"

    def __init__(self, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail, retry_after)
        self.detail, self.retry_after = detail, retry_after


class NotFound(Refusal):
    """Unknown, deleted, or another tenant's: the three look the same."""

    status, title = 404, "Not found"


class Conflict(Refusal):
    """It does not fit the state of things."""

    status, title = 409, "Conflict"


class Moved(Conflict):
    """The session has moved on since its state was read: another writer was first. Nothing was changed."""


class VersionMismatch(Refusal):
    """`If-Match` names another version."""

    status, title = 412, "Precondition failed"


class TooLarge(Refusal):
    """Beyond a limit on size."""

    status, title = 413, "Too large"


class Unprocessable(Refusal):
    """Well-formed, but nothing can be done with it."""

    status, title = 422, "Unprocessable"


class TooMany(Refusal):
    """Beyond a limit on requests or on things kept."""

    status, title = 429, "Too many"


class Unavailable(Refusal):
    """A part that the request needs does not answer now."""

    status, title = 503, "Unavailable"


@contextmanager
def refusals() -> Iterator[None]:
    """What the parts below raise, as what a client is told."""
    try:
        yield
    except DatabaseDown as error:
        raise Unavailable("the database does not answer; try again", RETRY_AFTER_S) from error
    except EngineError as error:
        raise Unavailable(f"no policy engine answers ({error}); try again", RETRY_AFTER_S) from error
    except EmbeddingError as error:
        raise Unavailable(f"the embedder does not answer ({error}); try again", RETRY_AFTER_S) from error
    except (TaskError, PromptTooLongError) as error:
        raise Unprocessable(str(error)) from error
