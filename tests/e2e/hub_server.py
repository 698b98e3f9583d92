"""Files in, a local server of the hub's file routes out, which can fail in each way that a hub or a
network does.

`resolve/REVISION/FILE` answers as the hub: what it keeps by hash (LFS) with a redirect that carries
the hash, small files themselves. Every request is noted.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
REPOSITORY = "somebody/tiny-voice"
REVISION = "0123456789abcdef0123456789abcdef01234567"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_id(content: bytes) -> str:
    """The hub's etag of a file that is not LFS: git's name for it."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(slots=True)
class HubFiles:
    """What the server has, what it does wrong, and what it was asked."""

    large: dict[str, bytes]
    small: dict[str, bytes]
    status: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    """File → a status and headers to answer with instead."""
    cut_after: list[int] = field(default_factory=list)
    """For the next answers with large content: close the socket after so many bytes."""
    served: dict[str, bytes] = field(default_factory=dict)
    """File → other content than what its hash says."""
    knows_ranges: bool = True
    is_hub: bool = True
    stalls: bool = False
    """Large content stops after its first byte, until the server ends."""
    ended: threading.Event = field(default_factory=threading.Event)
    tokens: list[tuple[str, str]] = field(default_factory=list)
    """(path, Authorization) of every request that brought one."""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, range)."""

    def ranges(self, name: str) -> list[str | None]:
        """The ranges in which content was asked for."""
        wanted = f"/lfs/{name}"
        return [asked for method, path, asked in self.requests if (method, path) == ("GET", wanted)]


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubFiles

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: `requests` has them."""

    def _answer(self, *, has_body: bool) -> None:
        hub, name = self.hub, self.path.rsplit("/", 1)[-1]
        hub.requests.append((self.command, self.path, self.headers.get("Range")))
        if token := self.headers.get("Authorization"):
            hub.tokens.append((self.path, token))
        if name in hub.status:
            status, headers = hub.status[name]
            self._send(status, headers, b"", has_body=False)
        elif self.path.startswith("/lfs/"):
            self._send_content(hub.served.get(name, hub.large[name]), has_body=has_body)
        elif name in hub.large:
            content = hub.large[name]
            linked = {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
            # Absolute, and of another host, as the hub's: relative ones are renamed repositories.
            place = {"Location": f"http://localhost:{self.connection.getsockname()[1]}/lfs/{name}"}
            self._send(302, self._commit() | linked | place, b"", has_body=False)
        elif name in hub.small:
            content = hub.small[name]
            headers = self._commit() | {"ETag": f'"{git_id(content)}"'}
            self._send(200, headers, hub.served.get(name, content), has_body=has_body)
        else:
            missing = {"X-Error-Code": "EntryNotFound"}
            self._send(404, self._commit() | missing, b"", has_body=False)

    def _commit(self) -> dict[str, str]:
        return {"X-Repo-Commit": REVISION} if self.hub.is_hub else {}

    def _send_content(self, content: bytes, *, has_body: bool) -> None:
        asked, start = self.headers.get("Range"), 0
        if asked is not None and self.hub.knows_ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self._send(
            206 if start else 200, headers if start else {}, content[start:], has_body=has_body
        )

    def _send(self, status: int, headers: dict[str, str], body: bytes, *, has_body: bool) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if not has_body:
            return
        if self.path.startswith("/lfs/") and self.hub.stalls:
            self.wfile.write(body[:1])
            self.wfile.flush()
            self.hub.ended.wait()
            self.close_connection = True
        elif self.path.startswith("/lfs/") and self.hub.cut_after:
            self.wfile.write(body[: self.hub.cut_after.pop(0)])
            self.wfile.flush()
            self.close_connection = True
        else:
            self.wfile.write(body)


@contextmanager
def serving(hub: HubFiles) -> Iterator[str]:
    """The address of a server with these files."""
    answers = type("Answers", (_Answers,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        hub.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def write_pins(
    path: Path, hub: HubFiles, *, name: str = "tiny", optional: tuple[str, ...] = ("conds.pt",)
) -> Path:
    """A table with one model of all files of the hub."""
    files = hub.large | hub.small
    lines = ["[repositories.tiny]", f'id = "{REPOSITORY}"', f'revision = "{REVISION}"']
    lines += ['licence = "MIT"', "[repositories.tiny.files]"]
    lines += [
        f'"{file}" = {{ bytes = {len(content)}, sha256 = "{sha256(content)}" }}'
        for file, content in files.items()
    ]
    needed = [file for file in files if file not in optional]
    for model in (name, "multilingual_v2"):
        lines += [f"[models.{model}]", 'repository = "tiny"', f"files = {json.dumps(needed)}"]
        lines += [f"optional = {json.dumps([file for file in files if file in optional])}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


_WITH_TABLE = (
    "import sys, pathlib, runpy, chatterbox.hub.pins as pins, chatterbox.hub.transfer as transfer\n"
    "pins.TABLE, transfer.RETRY_S = pathlib.Path(sys.argv.pop(1)), 0.0\n"
    "sys.argv = sys.argv[1:]\n"
    "runpy.run_module(sys.argv[0], run_name='__main__')"
)


def start_program(
    module: str,
    *arguments: str,
    table: Path,
    home: Path,
    endpoint: str,
    environ: Mapping[str, str],
    stderr: int = subprocess.PIPE,
) -> "subprocess.Popen[str]":
    """`python -m module` with another table, cache and hub."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.Popen(
        [sys.executable, "-c", _WITH_TABLE, str(table), module, *arguments],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        cwd=ROOT,
        env=kept | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint} | dict(environ),
    )
