"""The cases in tests/web/cases, each in Chromium: the engine that runs these modules for users.

Node would start faster, but it is not the program that plays, and it is not needed otherwise.
"""

import asyncio
import re
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Route

from tests.web.stage import HERE, ROOT, chromium

CASES = HERE / "cases"
WEB_CLIENT = ROOT / "web_client"
ORIGIN = "http://localhost"  # never asked: every request is answered by `_serve`
NAME = re.compile(r'^  "(.+)"\(\) \{$', re.MULTILINE)
RUN = """async (url) => {
  const { cases } = await import(url);
  const results = {};
  for (const [name, run] of Object.entries(cases)) {
    try { await run(); results[name] = null; } catch (error) { results[name] = String(error); }
  }
  return results;
}"""


def listed() -> list[tuple[str, str]]:
    return [
        (path.name, name)
        for path in sorted(CASES.glob("*.js"))
        for name in NAME.findall(path.read_text())
    ]


async def _serve(route: Route) -> None:
    path = urlsplit(route.request.url).path
    if path == "/":
        await route.fulfill(body="<!doctype html>", content_type="text/html")
        return
    folder = CASES if path.startswith("/cases/") else WEB_CLIENT
    await route.fulfill(path=folder / Path(path).name, content_type="text/javascript")


@cache
def results() -> dict[tuple[str, str], str | None]:
    """What came of every case; one browser for all of them."""

    async def run() -> dict[tuple[str, str], str | None]:
        found: dict[tuple[str, str], str | None] = {}
        async with chromium() as browser:
            page = await browser.new_page()
            await page.route("**/*", _serve)
            await page.goto(ORIGIN)
            for path in sorted(CASES.glob("*.js")):
                told = await page.evaluate(RUN, f"/cases/{path.name}")
                found.update({(path.name, name): error for name, error in told.items()})
        return found

    return asyncio.run(run())


@pytest.mark.parametrize(("file", "name"), listed())
def test_case(file: str, name: str) -> None:
    """Each case's name says what would be wrong."""
    assert results()[file, name] is None


def test_every_case_is_collected() -> None:
    """A case whose name the pattern above misses would never be reported."""
    assert set(results()) == set(listed())
    assert len(listed()) > 20
