"""The playground: one page at `/`, and its style sheets and scripts under `/playground/`."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

_FOLDER = Path(__file__).parents[1] / "web"
_HEADERS = {
    # Nothing comes from elsewhere and no script or style is inline, so no text can become either.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
router = APIRouter(include_in_schema=False)


def _files() -> dict[str, Path]:
    """All that is served, by name; the report's style sheet holds the palette and the controls."""
    with as_file(files("evaluation") / "templates" / "report.css") as report:
        return {path.name: path for path in [*_FOLDER.iterdir(), report] if path.suffix in (".css", ".js", ".svg")}


_FILES = _files()


@router.get("/")
async def page() -> FileResponse:
    """The page."""
    return FileResponse(_FOLDER / "index.html", headers=_HEADERS)


@router.get("/playground/{name}")
async def part(name: str) -> FileResponse:
    """One of its files; there is no way to any other."""
    if name not in _FILES:
        raise HTTPException(404, f"the playground has no file {name[:40]!r}")
    return FileResponse(_FILES[name], headers=_HEADERS)
