"""Strangers at the door: tokens, tickets, origins, limits, TLS, over real sockets."""

import asyncio
import json
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from daemon.config import Config, ConfigError
from daemon.server import Daemon
from daemon.wire.protocol import Begin, parse_server_message
from tests.e2e.processes import ROOT, command, daemon_process
from tests.e2e.wire import LONGEST_TEST_S, run, running
from tests.fakes import RecordingEngine

TOKEN = "0123456789abcdef"
OTHER = "fedcba9876543210"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


async def get(
    port: int, path: str, headers: dict[str, str] | None = None, *, method: str = "GET"
) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"{name}: {value}" for name, value in ({"Host": "x"} | (headers or {})).items()]
    writer.write("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode())
    head, _, body = (await reader.read()).decode(errors="replace").partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


def token_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


async def refused(url: str, **options: object) -> int:
    with pytest.raises(InvalidStatus) as error:
        await connect(url, compression=None, **options)  # type: ignore[arg-type]
    return error.value.response.status_code


def test_who_has_no_token_stays_outside(tmp_path: Path) -> None:
    """Before the upgrade, and with everything behind the door but health."""
    path = token_file(tmp_path, f'[agent]\ntoken = "{TOKEN}"\nmax_contexts = 2\nmax_sessions = 1\n')

    async def talk() -> None:
        async with running(token_file=path) as daemon:
            assert await refused(daemon.url) == 401
            assert (
                await refused(daemon.url, additional_headers={"Authorization": "Bearer x"}) == 401
            )
            for page in ("/metrics", "/voices", "/ticket"):
                assert (await get(daemon.port, page))[0] == 401
                assert (await get(daemon.port, page, AUTHORIZED))[0] == 200
            for page in ("/healthz", "/readyz"):
                assert (await get(daemon.port, page))[0] == 200
            async with connect(daemon.url, additional_headers=AUTHORIZED) as connection:
                begin = parse_server_message(str(await connection.recv()))
                assert isinstance(begin, Begin)
                assert begin.limits.contexts == 2
                assert await refused(daemon.url, additional_headers=AUTHORIZED) == 429

    run(talk())


def test_a_browser_comes_with_a_ticket(tmp_path: Path) -> None:
    """It can send no header; the ticket must pass the real handshake, once."""
    path = token_file(tmp_path, f'[agent]\ntoken = "{TOKEN}"\n')

    async def talk() -> None:
        async with running(token_file=path) as daemon:
            body = json.loads((await get(daemon.port, "/ticket", AUTHORIZED))[1])
            assert body["expires_in_s"] == 60
            offered = ["chatterboxd.v1", "chatterboxd.ticket." + body["ticket"]]
            async with connect(daemon.url, subprotocols=offered) as connection:
                assert connection.subprotocol == "chatterboxd.v1"
                assert '"begin"' in str(await connection.recv())
            assert await refused(daemon.url, subprotocols=offered) == 401
            body = json.loads((await get(daemon.port, "/ticket", AUTHORIZED))[1])
            async with connect(f"{daemon.url}?ticket={body['ticket']}") as connection:
                assert '"begin"' in str(await connection.recv())

    run(talk())


def test_pages_of_strangers_are_refused() -> None:
    """Any page can open a WebSocket to this machine; the browser says whose page it is."""

    async def talk() -> None:
        async with running() as daemon:
            assert await refused(daemon.url, origin="https://evil.example") == 403
            own = f"http://127.0.0.1:{daemon.port}"
            async with connect(daemon.url, origin=own) as connection:  # type: ignore[arg-type]
                assert '"begin"' in str(await connection.recv())

    run(talk())


@pytest.mark.parametrize(
    "path",
    [
        "/../README.md",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/daemon/server.py",
        "/%00",
        "/index.html/../../README.md",
        "http://[",
    ],
)
def test_no_path_reaches_the_file_system(path: str) -> None:
    """What is served is a table in memory."""

    async def talk() -> None:
        async with running() as daemon:
            status, body = await get(daemon.port, path)
            assert status == 404
            assert "chatterboxd" not in body

    run(talk())


def test_a_voice_is_looked_up_not_opened() -> None:
    """The voice's name is the one word of a client that could become a file's name."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            for voice in ("../../etc/passwd", "/etc/passwd", "sine\x00", "voices/sine"):
                await wire.send("open", "a", voice=voice)
                error = await wire.receive()
                assert getattr(error, "code", None) == "unknown_voice"

    run(talk())


def test_hasty_messages_are_read_later_not_lost() -> None:
    """A limit that drops text would garble speech."""

    async def talk() -> None:
        async with running(max_messages_per_s=100) as daemon, daemon.wire() as wire:
            await wire.send("open", "a", format="pcm_s16le", max_lead_ms=120_000)
            for _ in range(230):
                await wire.send("text", "a", text="x ")
            await wire.send("end", "a")
            heard = await wire.hear("a")
            assert heard.end.text_chars == 460
            assert heard.arrived_s[-1] - heard.arrived_s[0] > 0.2

    run(talk())


def is_dropped(plug: socket.socket) -> bool:
    try:
        return plug.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_silent_connections_do_not_use_up_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of sockets that never send a request are the cheapest attack there is."""
    # Those within the limit stay until it is counted, however slowly the others come.
    monkeypatch.setattr("daemon.front_door._HANDSHAKE_S", LONGEST_TEST_S)

    async def talk() -> None:
        async with running(max_sessions=1) as daemon:
            loop = asyncio.get_running_loop()
            plugs = []
            try:
                for _ in range(300):
                    plug = socket.socket()
                    plug.setblocking(False)
                    await loop.sock_connect(plug, ("127.0.0.1", daemon.port))
                    plugs.append(plug)
                await daemon.until(lambda: sum(map(is_dropped, plugs)) >= 300 - 257)
                assert sum(map(is_dropped, plugs)) == 300 - 257
            finally:
                for plug in plugs:
                    plug.close()
            await daemon.until(lambda: len(asyncio.all_tasks()) < 50)  # their tasks have ended
            async with daemon.wire() as wire:
                assert (await wire.speak("a", "Hello.")).end.samples

    run(talk())


def test_a_public_address_needs_a_token() -> None:
    """A laptop in a café must not become everybody's loudspeaker by one option."""
    config = Config(engine="sine", host="0.0.0.0", port=0)
    with pytest.raises(ConfigError, match="can be reached from other machines"):
        asyncio.run(_run_briefly(config))
    for changes in ({"public_without_token": True}, {"tokens": (f"agent={TOKEN}",)}):
        forced = Config(engine="sine", host="0.0.0.0", port=0, **changes)
        assert asyncio.run(_run_briefly(forced)) == 0


async def _run_briefly(config: Config) -> int:
    daemon = Daemon(config, RecordingEngine)
    return await daemon.run(on_listening=daemon.stop)


def test_a_mistake_in_the_tokens_is_a_plain_error(tmp_path: Path) -> None:
    """Exit status 2 keeps systemd from trying again and again."""
    path = token_file(tmp_path, "[agent]\n")
    result = subprocess.run(
        command("--port", "0", "--token-file", str(path)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert result.returncode == 2
    assert "the token of agent needs 16 characters" in result.stderr
    assert "Traceback" not in result.stderr


# --- what SIGHUP reads again ----------------------------------------------------------------------


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed one for 127.0.0.1."""
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", str(key)),
            *("-out", str(chain), "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return chain, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls_and_its_new_certificate(tmp_path: Path) -> None:
    """A certificate lives for weeks, a daemon for months; a restart would cut speakers off."""
    old, new = (make_certificate(tmp_path, name) for name in ("old", "new"))
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    shutil.copy(old[0], chain)
    shutil.copy(old[1], key)
    arguments = ("--tls-cert", str(chain), "--tls-key", str(key))

    async def session_trusting(certificate: Path, port: int) -> None:
        context = ssl.create_default_context(cafile=str(certificate))
        async with connect(f"wss://127.0.0.1:{port}", ssl=context, proxy=None) as connection:
            assert '"begin"' in str(await connection.recv())

    with daemon_process(tmp_path, *arguments) as daemon:

        async def talk() -> None:
            port = daemon.port
            await session_trusting(old[0], port)
            trusts_old = ssl.create_default_context(cafile=str(old[0]))
            async with connect(f"wss://127.0.0.1:{port}", ssl=trusts_old, proxy=None) as living:
                key.write_text("half a key")
                daemon.process.send_signal(signal.SIGHUP)
                daemon.until_logged("nothing was reloaded")
                await session_trusting(old[0], port)
                shutil.copy(new[0], chain)
                shutil.copy(new[1], key)
                daemon.process.send_signal(signal.SIGHUP)
                daemon.until_logged("were read again")
                await session_trusting(new[0], port)
                with pytest.raises(ssl.SSLCertVerificationError):
                    await session_trusting(old[0], port)
                await living.ping()
                await living.send('{"type":"open","context":"a"}')
                await living.recv()
                assert '"opened"' in str(await living.recv())

        asyncio.run(talk())
        status, errors = daemon.finish(signal.SIGTERM)
        assert status == 0
        assert errors.count("nothing was reloaded") == 1
        assert errors.startswith(f"listening on wss://127.0.0.1:{daemon.port}\n")


def test_tokens_are_read_again(tmp_path: Path) -> None:
    """A leaked token must be gone at once, without cutting anybody off."""
    path = token_file(tmp_path, f'[agent]\ntoken = "{TOKEN}"\n')
    with daemon_process(tmp_path, "--token-file", str(path)) as daemon:

        async def talk() -> None:
            async with connect(daemon.url, additional_headers=AUTHORIZED) as living:
                path.write_text(f'[agent]\ntoken = "{OTHER}"\n')
                daemon.process.send_signal(signal.SIGHUP)
                daemon.until_logged("were read again")
                assert await refused(daemon.url, additional_headers=AUTHORIZED) == 401
                renewed = {"Authorization": f"Bearer {OTHER}"}
                async with connect(daemon.url, additional_headers=renewed) as connection:
                    await connection.recv()
                path.write_text("nonsense")
                daemon.process.send_signal(signal.SIGHUP)
                daemon.until_logged("nothing was reloaded")
                async with connect(daemon.url, additional_headers=renewed) as connection:
                    await connection.recv()
                await (await living.ping())

        asyncio.run(talk())
        assert daemon.finish(signal.SIGTERM)[0] == 0


def test_a_token_file_that_all_can_read_is_worth_a_warning(tmp_path: Path) -> None:
    """The commonest leak is a mode."""
    path = token_file(tmp_path, f'[agent]\ntoken = "{TOKEN}"\n')
    path.chmod(0o644)
    with daemon_process(tmp_path, "--token-file", str(path)) as daemon:
        assert "every user of this machine can read it" in daemon.finish(signal.SIGTERM)[1]
