"""The page as a thing to use: remembered choices, keys, contrast, a phone, many tabs, docs."""

import asyncio
import re

from chatterboxd_client.spawn import OwnDaemon, own_daemon
from tests.web.stage import LONGEST_TEST_S, ROOT, Stage, chromium, on_stage, page_url

SINE = ("--engine", "sine")
TEXT = "All work and no play makes Jack a dull boy. And so it goes on, to the end."
NUM_TABS = 20
ENOUGH_CONTRAST = 4.5
"""WCAG 2.2, level AA, for text of this size."""


def test_choices_are_those_of_the_daemon_and_survive_a_reload() -> None:
    """Choosing a voice anew on each visit is what people hate first."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        page = stage.page
        await stage.until_ready()
        await page.click("summary")
        assert await page.locator("#set-voice option").all_inner_texts() == ["sine", "low"]
        assert float(await page.input_value("#set-speed")) == 1.0
        await page.select_option("#set-voice", "low")
        await page.fill("#set-seed", "7")
        await page.fill("#set-speed", "2")
        await page.select_option("#set-format", "pcm_s16le")
        await page.reload()
        await stage.until_ready()
        assert await page.input_value("#set-voice") == "low"
        assert "PCM" in await page.inner_text("#format")
        await stage.type_and_enter("Hello.")
        opened = await stage.until_seen("opened")
        assert (opened["voice"], opened["seed"], opened["options"]) == ("low", 7, {"speed": 2})
        assert opened["format"] == "pcm_s16le"

    on_stage(scenario)


def test_a_choice_that_the_daemon_does_not_have_any_more_is_dropped() -> None:
    """Another model on the same address: a remembered voice must not make every utterance fail."""
    kept = '{"voice": "gone", "seed": -4, "options": {"speed": 99, "old": 1}, "format": "mp3"}'

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        await stage.type_and_enter("Hello.")
        opened = await stage.until_seen("opened")
        assert (opened["voice"], opened["seed"], opened["options"]) == ("sine", 0, {"speed": 1})
        assert (await stage.until_seen("close"))["reason"] == "ended"

    on_stage(scenario, init=f"localStorage.setItem('chatterboxd', '{kept}');")


def test_everything_can_be_reached_and_has_a_name() -> None:
    """Without a mouse, and read aloud by a screen reader."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        page = stage.page
        await stage.until_ready()
        await page.click("summary")
        nameless = await page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, textarea, [role]")]
              .filter((item) => item.checkVisibility())
              .filter((item) => !(item.labels?.length || item.innerText?.trim() ||
                item.getAttribute("aria-label") || item.getAttribute("aria-labelledby")))
              .map((item) => item.outerHTML)"""
        )
        assert nameless == []
        reached = set()
        await page.focus(".skip")
        for _ in range(25):
            reached.add(
                await page.evaluate("document.activeElement.id || document.activeElement.name")
            )
            await page.keyboard.press("Tab")
        assert {"text", "speak", "mode", "demo", "reading", "set-voice", "set-format"} <= reached

    on_stage(scenario)


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_both_themes_have_enough_contrast() -> None:
    """Calm colours are easily too faint to read."""
    style = (ROOT / "web_client" / "style.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    pairs = [
        (ink, ground) for ink in ("--ink", "--soft") for ground in ("--paper", "--card", "--field")
    ]
    pairs += [("--ink", "--wash"), ("--ink", "--bad-wash"), ("--ink", "--calm-wash")]
    pairs += [("--on-accent", "--accent"), ("--accent", "--card")]
    for theme in (light, dark):
        colours = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6});", theme))
        for ink, ground in pairs:
            lighter, darker = sorted((luminance(colours[ink]), luminance(colours[ground])))[::-1]
            assert (lighter + 0.05) / (darker + 0.05) >= ENOUGH_CONTRAST, (ink, ground)


def test_a_phone_shows_all_of_it_without_scrolling_sideways() -> None:
    """A button beyond the edge of the screen is not there."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        await stage.page.click("summary")
        await stage.type_and_enter("Donaudampfschifffahrtsgesellschaft" * 8)
        await stage.until_seen("sound")
        wide = await stage.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert wide[0] <= wide[1] == 320

    on_stage(scenario, viewport={"width": 320, "height": 640}, has_touch=True)


def test_twenty_tabs_speak_at_once() -> None:
    """Each gets all of its own audio and nobody else's, and comes to its end."""

    async def run() -> None:
        async with (
            asyncio.timeout(LONGEST_TEST_S),
            chromium() as browser,
            own_daemon([*SINE, "--slots", str(NUM_TABS)]) as own,
        ):
            first = await Stage.open(browser, page_url(own))
            pages = [first.page] + [
                await first.page.context.new_page() for _ in range(NUM_TABS - 1)
            ]
            for page in pages:
                await page.goto(page_url(own))
            endings = await asyncio.gather(
                *(
                    page.evaluate(
                        """async text => {
                          const { player } = chatterbox;
                          await player.ready;
                          const utterance = player.speak(text);
                          const { reason, playedMs } = await utterance.done;
                          return { reason, playedMs, receivedMs: utterance.receivedMs };
                        }""",
                        TEXT,
                    )
                    for page in pages
                )
            )
            lengths = {round(ending["receivedMs"]) for ending in endings}
            assert {ending["reason"] for ending in endings} == {"ended"}
            assert len(lengths) == 1
            assert all(abs(item["playedMs"] - item["receivedMs"]) < 0.1 for item in endings)

    asyncio.run(run())


def test_the_example_of_the_document_speaks_from_another_origin() -> None:
    """Ten lines that people copy: module, worklet and socket all cross origins there."""
    document = (ROOT / "docs" / "browser.md").read_text()
    example = re.search(r"```html\n(.*?)```", document, re.DOTALL)
    assert example

    async def run() -> None:
        async with asyncio.timeout(LONGEST_TEST_S), chromium() as browser:
            pages: dict[str, str] = {}

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
                writer.write(pages["/"].encode())
                writer.close()

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with server, own_daemon([*SINE, "--allowed-origins", origin]) as own:
                pages["/"] = example[1].replace("http://localhost:8765", page_url(own).rstrip("/"))
                page = await browser.new_page()
                await page.goto(f"{origin}/")
                await page.wait_for_function(
                    "() => document.querySelector('#speak').onclick !== null"
                )
                await page.click("#speak")
                await page.wait_for_function("() => document.title === 'speaking'")
                await page.click("#stop")
                await page.wait_for_function("() => document.title === 'cancelled'")
                await page.click("#speak")
                await page.wait_for_function("() => document.title === 'ended'")

    asyncio.run(run())
