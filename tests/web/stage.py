"""A headless Chromium in front of a daemon, for tests: what its pages told and sounded like.

The sound is taken where it leaves the player: an AudioWorklet of ours notes every sample of every
block that the AudioContext renders.
"""

import asyncio
import base64
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.async_api import Browser, Page, async_playwright

from chatterboxd_client.spawn import OwnDaemon, own_daemon

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
LONGEST_TEST_S = 90.0
NUM_TRIES = 4
"""A machine that is busy with other things may run dry once; a bug does so every time."""
TAPPED: dict[str, Any] = {"bypass_csp": True}
"""Options of a page whose sound is to be noted."""
Samples = NDArray[np.float32]

# Told by the player, kept by the page: every event with its time and plain details.
_NOTE_EVENTS = """
window.seen = [];
addEventListener("DOMContentLoaded", () => {
  const wait = setInterval(() => {
    const player = globalThis.chatterbox?.player;
    if (!player) return;
    clearInterval(wait);
    const types = ["state", "begin", "utterance", "opened", "segment", "words", "start", "sound",
      "underrun", "pause", "resume", "received", "warning", "refused", "close", "complaint",
      "format"];
    for (const type of types) {
      player.addEventListener(type, ({ detail }) => {
        const { utterance, ...rest } = detail;
        window.seen.push({ ...JSON.parse(JSON.stringify(rest)), type, name: utterance?.name });
      });
    }
  }, 1);
});
"""


def chromium_path() -> str:
    """Debian's Chromium, or whatever stands in for it."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    if os.environ.get("REQUIRE_CHROMIUM"):
        pytest.fail("there is no Chromium, and REQUIRE_CHROMIUM is set")
    pytest.skip("no Chromium here; on Debian: apt-get install chromium")


@contextlib.asynccontextmanager
async def chromium(arguments: Sequence[str] = ()) -> AsyncIterator[Browser]:
    path = chromium_path()
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=[*sandbox, *arguments]
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass(slots=True)
class Captured:
    """What an AudioContext rendered from the moment that the tap was there, silence included."""

    samples: Samples
    first_frame: int
    rate: int

    def sounding(self) -> Samples:
        """From the first sample that is not zero to the last."""
        places = np.flatnonzero(self.samples)
        return self.samples[places[0] : places[-1] + 1] if places.size else self.samples[:0]


@dataclass(slots=True)
class Stage:
    """One page of one browser."""

    page: Page
    url: str
    troubles: list[str]

    @classmethod
    async def open(cls, browser: Browser, url: str, **options: Any) -> "Stage":
        init = options.pop("init", "")
        context = await browser.new_context(**options)
        page = await context.new_page()
        troubles: list[str] = []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "console",
            lambda message: (
                troubles.append(message.text) if "Content Security" in message.text else None
            ),
        )
        await page.add_init_script(init + _NOTE_EVENTS)
        await page.goto(url)
        return cls(page, url, troubles)

    async def until_ready(self) -> None:
        await self.page.wait_for_function("() => !document.querySelector('#speak').disabled")

    async def tap(self) -> None:
        """Note every sample from here on. Needs `TAPPED`: the policy forbids more scripts."""
        await self.page.evaluate(
            """async (source) => {
              const { output } = chatterbox.player;
              const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
              await output.context.audioWorklet.addModule(url);
              const tap = new AudioWorkletNode(output.context, "tap");
              output.connect(tap).connect(output.context.destination);
              window.tap = tap;
            }""",
            (HERE / "tap.js").read_text(),
        )

    async def captured(self) -> Captured:
        told = await self.page.evaluate(
            """() => new Promise((resolve) => {
              tap.port.onmessage = async ({ data }) => {
                const reader = new FileReader();
                reader.onload = () => resolve({ ...data, samples: reader.result.split(",")[1],
                  rate: tap.context.sampleRate });
                reader.readAsDataURL(new Blob([data.samples]));
              };
              tap.port.postMessage("give");
            })"""
        )
        raw = base64.b64decode(told["samples"] or "")
        return Captured(np.frombuffer(raw, dtype=np.float32), told["firstFrame"], told["rate"])

    async def type_and_enter(self, text: str) -> None:
        await self.page.fill("#text", text)
        await self.page.press("#text", "Enter")

    async def seen(self, kind: str) -> list[dict[str, Any]]:
        found = await self.page.evaluate("(kind) => seen.filter(({type}) => type === kind)", kind)
        return list(found)

    async def until_seen(self, kind: str, *, count: int = 1) -> dict[str, Any]:
        """The so manieth event of a kind."""
        await self.page.wait_for_function(
            "([kind, count]) => seen.filter(({type}) => type === kind).length >= count",
            arg=[kind, count],
            timeout=25_000,
        )
        return (await self.seen(kind))[count - 1]

    async def heard_without_underrun(self, text: str) -> Samples:
        """Say it until it went through without running dry; what was rendered that time."""
        for _attempt in range(NUM_TRIES):
            before = (await self.captured()).samples.size
            num_underruns = len(await self.seen("underrun"))
            num_closes = len(await self.seen("close"))
            await self.type_and_enter(text)
            ending = await self.until_seen("close", count=num_closes + 1)
            assert ending["reason"] == "ended"
            if len(await self.seen("underrun")) == num_underruns:
                return (await self.captured()).samples[before:]
        raise AssertionError(f"it ran dry in each of {NUM_TRIES} tries")

    async def notice(self) -> str:
        """What the page tells about trouble; empty if it does not."""
        if await self.page.is_hidden("#notice"):
            return ""
        return await self.page.inner_text("#notice")


def on_stage(
    scenario: Callable[[Stage, OwnDaemon], Awaitable[None]],
    *,
    daemon: Sequence[str] = ("--engine", "sine"),
    browser: Sequence[str] = (),
    host: str = "127.0.0.1",
    **page_options: Any,
) -> None:
    """Run a scenario with a daemon of its own and one page of it; no page may raise an error."""

    async def run() -> None:
        async with (
            asyncio.timeout(LONGEST_TEST_S),
            chromium(browser) as chrome,
            own_daemon(daemon) as own,
        ):
            stage = await Stage.open(chrome, page_url(own, host=host), **page_options)
            await scenario(stage, own)
            assert not stage.troubles

    asyncio.run(run())


def page_url(own: OwnDaemon, *, host: str = "127.0.0.1") -> str:
    return own.url.replace("ws://127.0.0.1", f"http://{host}") + "/"


def aligned(captured: Samples, expected: Samples) -> Samples:
    """The stretch of what was captured where all of `expected` should be: from the first sound."""
    loud = np.flatnonzero(np.abs(captured) > 0.01)
    assert loud.size, "nothing was rendered"
    start = int(loud[0]) - int(np.flatnonzero(np.abs(expected) > 0.01)[0])
    padded = np.concatenate([np.zeros(max(0, -start), np.float32), captured[max(0, start) :]])
    stretch = padded[: expected.size]
    return np.pad(stretch, (0, expected.size - stretch.size))
