"""The page's palette: what the model knows can be put into the text with a click, and is said."""

from chatterboxd_client.spawn import OwnDaemon
from tests.web.stage import Stage, on_stage

PAUSE = '<break time="500ms"/>'


def test_the_palette_writes_where_the_cursor_is() -> None:
    """A tag at the end of the text, or in the middle of a word, would be of little use."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        page = stage.page
        await stage.until_ready()
        names = await page.locator("#palette button").all_inner_texts()
        assert names == ["pause", "laugh", "clear throat"]
        await page.fill("#text", "One two")
        await page.evaluate("document.querySelector('#text').setSelectionRange(3, 3)")
        await page.click("#palette button >> text=pause")
        assert await page.input_value("#text") == f"One {PAUSE} two"
        await page.keyboard.type("and")
        assert await page.input_value("#text") == f"One {PAUSE}and two"
        await page.click("#palette button >> text=laugh")
        assert await page.input_value("#text") == f"One {PAUSE}and [laugh] two"
        await page.press("#text", "Enter")
        assert (await stage.until_seen("close"))["reason"] == "ended"
        said = [item["text"] for item in await stage.seen("segment")]
        assert said == ["One", "and [laugh] two"]
        assert await stage.seen("warning") == []

    on_stage(scenario)


def test_while_typing_a_click_is_typing() -> None:
    """Otherwise a tag would be heard only once something else is typed."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        page = stage.page
        await stage.until_ready()
        await page.check("input[value=typing]", force=True)
        await page.focus("#text")
        await page.keyboard.type("Well, ")
        await page.click("#palette button >> text=throat")
        await page.keyboard.type("so be it. ")
        assert (await stage.until_seen("close"))["reason"] == "ended"
        said = " ".join(item["text"] for item in await stage.seen("segment"))
        assert said == "Well, [clear throat] so be it."

    on_stage(scenario)


def test_no_pause_where_the_daemon_makes_none() -> None:
    """Each offer of the page is one that the daemon keeps."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        names = await stage.page.locator("#palette button").all_inner_texts()
        assert names == ["laugh", "clear throat"]

    on_stage(scenario, daemon=("--engine", "sine", "--max-break-ms", "0"))
