"""Style sheets and scripts, our own and vendored ones (`static/vendor/README.md`). Nothing is loaded from other hosts."""

import hashlib
from functools import cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).with_name("static")
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
HEADERS = {"Cache-Control": "public, max-age=0, must-revalidate"}


@cache
def _files() -> dict[str, tuple[bytes, str, str]]:
    """Content, media type and ETag of each file by path: only these can be requested."""
    found = {}
    for path in FOLDER.rglob("*"):
        if path.suffix in TYPES:
            content = path.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            found[path.relative_to(FOLDER).as_posix()] = (content, TYPES[path.suffix], tag)
    return found


def static(request: Request) -> Response:
    """One file, or 304 if the browser's copy is current."""
    if request.path_params["path"] not in _files():
        raise HTTPException(404, f"The console has no file '{request.path_params['path'][:80]}'")
    content, kind, tag = _files()[request.path_params["path"]]
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={**HEADERS, "ETag": tag})
    return Response(content, media_type=kind, headers={**HEADERS, "ETag": tag})
