"""Parameters that several routes take."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Path, Query

from cluster.serving.errors import NotFound, Unprocessable

_SESSION_ID = re.compile(r"[0-9a-f]{32}")
_TAG = re.compile(r'\s*(?:W/)?"?([0-9]{1,18})"?\s*')


def known_form(session_id: str) -> str:
    """An id that a session could have; any other is unknown."""
    if not _SESSION_ID.fullmatch(session_id):
        raise NotFound(f"no session {session_id[:40]!r}")
    return session_id


def expected_version(
    if_match: Annotated[str | None, Header(description='the version to edit, as `"7"`')] = None,
) -> int | None:
    """The version of `If-Match`; None when any will do."""
    if if_match is None or if_match.strip() == "*":
        return None
    match = _TAG.fullmatch(if_match)
    if match is None:
        raise Unprocessable(f'If-Match is {if_match[:40]!r}: give the session\'s version, e.g. "7"')
    return int(match[1])


SessionId = Annotated[str, Depends(known_form)]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
ChunkNumber = Annotated[int, Path(ge=0, le=2**31 - 1)]
EntryId = Annotated[int, Path(ge=1, le=999_999_999)]
Expected = Annotated[int | None, Depends(expected_version)]
Limit = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[int, Query(ge=0, le=2**62)]
Version = Annotated[int | None, Query(ge=0, le=2**62)]
