"""A path of an HTTP GET in, a file of web_client/ or None out. No client's path reaches the disk.

The files are a fixed list, read once when the daemon starts; a path is looked up in a table. Knows
nothing of sessions.
"""

import hashlib
import http
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

WEB_CLIENT = Path(__file__).resolve().parents[2] / "web_client"

FILES: Mapping[str, str] = {
    "/": "index.html",
    "/style.css": "style.css",
    "/favicon.svg": "favicon.svg",
    "/app.js": "app.js",
    "/composer.js": "composer.js",
    "/notices.js": "notices.js",
    "/palette.js": "palette.js",
    "/own-voices.js": "own-voices.js",
    "/reading.js": "reading.js",
    "/recorder.js": "recorder.js",
    "/recorder-worklet.js": "recorder-worklet.js",
    "/scope.js": "scope.js",
    "/settings.js": "settings.js",
    "/timeline.js": "timeline.js",
    "/chatterbox-player.js": "chatterbox-player.js",
    "/utterance.js": "utterance.js",
    "/voice-studio.js": "voice-studio.js",
    "/connection.js": "connection.js",
    "/sound.js": "sound.js",
    "/decoder.js": "decoder.js",
    "/player-worklet.js": "player-worklet.js",
    "/ring-buffer.js": "ring-buffer.js",
    "/protocol.js": "protocol.js",
}
"""Every path that is answered, and its file."""

_MEDIA_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Mapping[str, str] = {
    # A page of an older daemon must never speak to a newer one: ask every time, 304 costs nothing.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class _Asset:
    body: bytes
    media_type: str
    tag: str


class Site:
    """The page, held in memory."""

    def __init__(self, assets: Mapping[str, _Asset]) -> None:
        self._assets = assets

    @classmethod
    def load(cls, folder: Path = WEB_CLIENT) -> Self:
        """Raises `OSError` if a file is missing: half a page is worse than none."""
        assets = {}
        for path, name in FILES.items():
            body = (folder / name).read_bytes()
            digest = hashlib.sha256(body).hexdigest()[:32]
            assets[path] = _Asset(body, _MEDIA_TYPES[Path(name).suffix], f'"{digest}"')
        return cls(assets)

    def answer(self, request: Request, *, path: str) -> Response | None:
        """None for what is no file, and for a WebSocket's handshake."""
        asset = self._assets.get(path)
        if asset is None or "Upgrade" in request.headers or request.method not in ("GET", "HEAD"):
            return None
        headers = Headers(_HEADERS)
        headers["ETag"] = asset.tag
        headers["Connection"] = "close"
        if asset.media_type.startswith("text/javascript"):
            # The player is a module for pages of other origins, too. It holds no secret.
            headers["Access-Control-Allow-Origin"] = "*"
            headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        if _names(request.headers.get_all("If-None-Match"), asset.tag):
            return _response(http.HTTPStatus.NOT_MODIFIED, headers, b"")
        headers["Content-Type"] = asset.media_type
        headers["Content-Length"] = str(len(asset.body))
        body = asset.body if request.method == "GET" else b""
        return _response(http.HTTPStatus.OK, headers, body)


def _names(known: list[str], tag: str) -> bool:
    """Whether an If-None-Match lists the tag; proxies that compress mark it as weak."""
    tags = {item.strip().removeprefix("W/") for line in known for item in line.split(",")}
    return tag in tags or "*" in tags


def _response(status: http.HTTPStatus, headers: Headers, body: bytes) -> Response:
    return Response(status.value, status.phrase, headers, body)
