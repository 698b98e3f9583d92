"""A daemon of the bundled voice in; pictures of its page while it speaks out, for docs/.

    PYTHONPATH=. .venv/bin/python tools/page_pictures.py

Needs Chromium and the development environment.
"""

import asyncio
import shutil
import sys
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from chatterboxd_client.spawn import own_daemon

DOCS = Path(__file__).resolve().parent.parent / "docs"
TEXT = (
    "The train leaves at nine, so please be at the station early. My sister keeps two cats and a"
    " very old dog in her garden, and they all get along."
)
SPEAKING_MS = 3_200
WIDE = {"viewport": {"width": 860, "height": 1100}, "device_scale_factor": 1.5}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}
PICTURES = {
    "browser.png": {**WIDE, "color_scheme": "light"},
    "browser-dark.png": {**WIDE, "color_scheme": "dark"},
    "browser-phone.png": {**PHONE, "color_scheme": "light"},
}


async def draw(browser: Browser, url: str, options: dict[str, object], path: Path) -> None:
    context = await browser.new_context(**options)  # type: ignore[arg-type]
    page = await context.new_page()
    await page.goto(url)
    await page.locator("textarea").first.fill(TEXT)
    await page.keyboard.press("Enter")
    await page.wait_for_timeout(SPEAKING_MS)
    await page.screenshot(path=path, full_page=True)
    await context.close()


async def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("there is no Chromium here; on Debian: apt-get install chromium")
    arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    async with own_daemon([]) as daemon, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=arguments)
        for name, options in PICTURES.items():
            url = daemon.url.replace("ws://", "http://")
            await draw(browser, url, options, DOCS / name)
            sys.stdout.write(f"docs/{name}\n")
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
