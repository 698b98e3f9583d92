"""What a person is told, and hears, when something is wrong: full, locked, gone, slow, too old."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from chatterboxd_client.spawn import OwnDaemon, own_daemon
from tests.web.stage import LONGEST_TEST_S, TAPPED, Stage, chromium, on_stage, page_url

TEXT = "All work and no play makes Jack a dull boy, and so it goes on. "
SINE = ("--engine", "sine")
TOKEN = "a-token-of-some-length"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until_notice(stage: Stage, part: str) -> None:
    await stage.page.wait_for_function(
        """part => !document.querySelector("#notice").hidden &&
          document.querySelector("#notice").innerText.includes(part)""",
        arg=part,
    )


def test_a_full_daemon_is_counted_down_and_then_entered() -> None:
    """ "Connection failed" makes people reload; a countdown makes them wait."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        second = await stage.page.context.new_page()
        await second.goto(stage.url)
        other = Stage(second, stage.url, [])
        await until_notice(other, "The daemon is full")
        await until_notice(other, "Trying again in 1 s")
        assert await second.is_disabled("#speak")
        await stage.page.close()
        await second.wait_for_function("() => !document.querySelector('#speak').disabled")
        assert await other.notice() == ""

    on_stage(scenario, daemon=[*SINE, "--max-sessions", "1", "--retry-after-s", "2"])


def test_a_token_is_asked_for_and_kept_for_the_tab(tmp_path: Path) -> None:
    """A daemon with tokens is not down: it wants something that the person may have."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await until_notice(stage, "asks for a token")
        await stage.page.fill("#token", "wrong-" + TOKEN)
        await stage.page.press("#token", "Enter")
        await stage.page.wait_for_timeout(300)
        await until_notice(stage, "asks for a token")
        await stage.page.fill("#token", TOKEN)
        await stage.page.press("#token", "Enter")
        await stage.until_ready()
        assert await stage.notice() == ""
        await stage.page.reload()
        await stage.until_ready()

    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[me]\ntoken = "{TOKEN}"\n')
    tokens.chmod(0o600)
    on_stage(scenario, daemon=[*SINE, "--token-file", str(tokens)])


def test_a_daemon_that_dies_in_mid_speech_is_found_again_and_nothing_stale_is_heard() -> None:
    """Ten seconds of a dead daemon's speech must not go on, nor come back later."""

    async def run() -> None:
        port = ("--port", str(free_port()))
        async with asyncio.timeout(LONGEST_TEST_S), chromium() as browser:
            async with own_daemon([*SINE, *port]) as own:
                stage = await Stage.open(browser, page_url(own), **TAPPED)
                await stage.until_ready()
                await stage.tap()
                await stage.type_and_enter(TEXT * 10)
                await stage.until_seen("sound")
                await asyncio.sleep(0.5)
                own.kill()
                assert (await stage.until_seen("close"))["reason"] == "lost"
            await until_notice(stage, "Trying again")
            silent_from = (await stage.captured()).samples.size + 4800
            async with own_daemon([*SINE, *port]):
                await stage.until_ready()
                assert await stage.notice() == ""
                await asyncio.sleep(0.5)
                assert not np.any((await stage.captured()).samples[silent_from:])
                await stage.type_and_enter("Here again.")
                assert (await stage.until_seen("close", count=2))["reason"] == "ended"
                assert np.any((await stage.captured()).samples[silent_from:])
            assert not stage.troubles

    asyncio.run(run())


def test_plain_http_from_elsewhere_is_told_what_it_needs() -> None:
    """`AudioWorklet is not defined` helps nobody: the page says HTTPS, and how."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await until_notice(stage, "This address cannot play sound")
        said = await stage.notice()
        for word in ("plain HTTP from speaker.test", "AudioWorklet", "WebCodecs", "TLS", "ssh -L"):
            assert word in said
        assert await stage.page.is_disabled("#speak")

    on_stage(
        scenario, host="speaker.test", browser=["--host-resolver-rules=MAP speaker.test 127.0.0.1"]
    )


def test_a_browser_without_audio_worklets_is_told_so() -> None:
    """A page that does nothing looks broken; one that names the reason does not."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await until_notice(stage, "cannot play live sound")

    on_stage(scenario, init="delete globalThis.AudioWorkletNode;")


def test_what_the_daemon_refuses_is_told_and_the_page_goes_on() -> None:
    """An error that ends in the console leaves a person before a silent page."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        await stage.type_and_enter("Far too long for this daemon. " * 5)
        await until_notice(stage, "That could not be said")
        assert "characters" in await stage.notice()
        await stage.page.click("#notice-action")
        await stage.page.evaluate("() => { chatterbox.player.speak('x', { voice: 'nobody' }); }")
        await until_notice(stage, "There is no voice")
        await stage.type_and_enter("Short.")
        await stage.page.wait_for_function(
            "() => seen.some(({ type, reason }) => type === 'close' && reason === 'ended')"
        )
        assert await stage.notice() == ""

    on_stage(scenario, daemon=[*SINE, "--max-text-chars", "100"])


@contextlib.asynccontextmanager
async def slow_way_to(own: OwnDaemon, *, bytes_per_s: int, stall_s: float) -> AsyncIterator[int]:
    """A port that leads to the daemon, slowly, and comes to a stop every half second.

    Chromium's own emulation of a network does not slow WebSockets down.
    """
    daemon_port = int(own.url.rsplit(":", 1)[1])
    step_s = 0.05

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turn = 0
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(int(bytes_per_s * step_s)):
                turn += 1
                await asyncio.sleep(stall_s if turn % 10 == 0 else step_s)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", daemon_port)

        async def there() -> None:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65_536):
                    far_writer.write(data)
            far_writer.close()

        await asyncio.gather(carry(far_reader, writer), there())

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def test_on_a_slow_network_nothing_clicks_nothing_is_lost_and_it_learns() -> None:
    """Speech over a bad line may wait; it may not crackle, and not wait over and over."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        browser = stage.page.context.browser
        assert browser is not None
        async with slow_way_to(own, bytes_per_s=16_000, stall_s=0.3) as port:
            slow = await Stage.open(browser, f"http://127.0.0.1:{port}/", **TAPPED)
            await slow.until_ready()
            await slow.tap()
            await slow.type_and_enter(TEXT * 2)
            ending = await slow.until_seen("close")
            assert ending["reason"] == "ended"
            samples = (await slow.captured()).samples
            assert np.abs(np.diff(samples)).max() < 0.06  # a tone of 0.25 at most 880 Hz, at 48 kHz
            total_ms = (await slow.until_seen("received"))["duration_ms"]
            assert abs(ending["playedMs"] - total_ms) < 0.1
            underruns = await slow.seen("underrun")
            assert len(underruns) < 8
            thresholds_ms = [item["thresholdMs"] for item in underruns]
            assert thresholds_ms == sorted(thresholds_ms)

    on_stage(scenario, **TAPPED)
