"""A configuration in; sockets for the dialects that it names, bound at once and served later, and
the dialects of the main port.

The only file that knows all dialects. What a dialect needs is imported when it is asked for.
"""

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from daemon.config import Config, ConfigError
from daemon.dialects.cartesia import CartesiaDialect
from daemon.dialects.deepgram import DeepgramDialect
from daemon.dialects.elevenlabs import ElevenLabsDialect
from daemon.dialects.sockets import SocketDialect
from daemon.door.listener import is_public, listen
from daemon.studio import Studio


def main_port_dialects(studio: Studio) -> list[SocketDialect]:
    """Who is asked first whether a path is theirs. No two share a path."""
    return [CartesiaDialect(studio), DeepgramDialect(studio), ElevenLabsDialect(studio)]


@dataclass(frozen=True, slots=True)
class Doors:
    config: Config
    openai: socket.socket | None = None
    wyoming: socket.socket | None = None

    @property
    def openai_port(self) -> int | None:
        return None if self.openai is None else int(self.openai.getsockname()[1])

    @property
    def wyoming_port(self) -> int | None:
        return None if self.wyoming is None else int(self.wyoming.getsockname()[1])

    def urls(self, *, is_secure: bool) -> list[str]:
        """For the operator."""
        lines = []
        if self.openai is not None:
            scheme = "https" if is_secure else "http"
            lines.append(f"{_url(scheme, self.openai)}/v1 for clients of OpenAI")
        if self.wyoming is not None:
            lines.append(f"{_url('tcp', self.wyoming)} for Home Assistant")
        return lines

    @contextlib.asynccontextmanager
    async def opened(self, studio: Studio, *, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if self.openai is not None:
                from daemon.dialects.openai import serve_openai

                await stack.enter_async_context(serve_openai(self.openai, studio, tls=tls))
            if self.wyoming is not None:
                from daemon.dialects.wyoming import serve_wyoming

                await stack.enter_async_context(serve_wyoming(self.wyoming, studio))
                if self.config.wyoming_zeroconf is not None:
                    from daemon.dialects.announcing import announced

                    name = self.config.wyoming_zeroconf
                    await stack.enter_async_context(announced(self.wyoming, name=name))
            yield


@contextlib.contextmanager
def bound_doors(config: Config, *, needs_token: bool) -> Iterator[Doors]:
    """Raises `ConfigError` or `OSError`. The sockets are closed with the block."""
    with contextlib.ExitStack() as stack:
        openai = wyoming = None
        if config.openai_port is not None:
            openai = stack.enter_context(listen(config.host, config.openai_port))
            _require_private(openai, config, "openai_port", is_guarded=needs_token)
        if config.wyoming is not None:
            parts = urlsplit(config.wyoming)
            wyoming = stack.enter_context(listen(parts.hostname or "", parts.port or 0))
            _require_private(wyoming, config, "wyoming", is_guarded=False)
        yield Doors(config, openai, wyoming)


def _require_private(
    plug: socket.socket, config: Config, setting: str, *, is_guarded: bool
) -> None:
    if is_public(plug) and not is_guarded and not config.public_without_token:
        raise ConfigError(
            f"{setting}: {plug.getsockname()[0]} can be reached from other machines, and nobody"
            " needs a token there; public_without_token allows it"
        )


def _url(scheme: str, plug: socket.socket) -> str:
    host, port = plug.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
