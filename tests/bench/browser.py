"""First sound in a browser: from the click to the first audible sample. One JSON line last.

Theory. A headless Chromium on this machine opens the page of a real daemon on loopback. The box
holds a sentence; Playwright clicks Speak. The clock starts at the click's own time stamp in the
page. An AudioWorklet behind the player notes when the first sample above -50 dBFS is rendered, by
the wall clock of the audio thread (to 1 ms). The split:

- `to_daemon`: click → the text has been given to the socket;
- `speech`: → the first audio message is here (T3, one flow window, one vocoder window, Opus);
- `decoded`: → its samples are decoded and on their way to the audio thread;
- `rendered`: → the first audible sample is rendered: the start threshold, the silence before the
  first sound in the segment, and the wait for the next block of the audio device.

What the sound card adds after that is `output_latency_ms`, as the browser states it. The first
sentence is spoken once beforehand and not counted.

    python tests/bench/browser.py [--rounds 3] [daemon options]
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from chatterboxd_client.spawn import own_daemon
from tests.web.stage import TAPPED, Stage, chromium, page_url

SENTENCES = (Path(__file__).parent / "sentences.txt").read_text().splitlines()
PARTS = ("to_daemon", "speech", "decoded", "rendered")

_WATCH = """() => {
  const wall = () => performance.timeOrigin + performance.now();
  document.querySelector("#speak").addEventListener("click", (event) => {
    window.times = { click: performance.timeOrigin + event.timeStamp };
  }, { capture: true });
  const { player } = chatterbox;
  player.connection.addEventListener("audio", () => { times.arrived ??= wall(); });
  player.addEventListener("text", () => { times.sent ??= wall(); });
  player.addEventListener("packet", () => { times.decoded ??= wall(); });
}"""
_LISTEN = """() => new Promise((resolve) => {
  tap.port.onmessage = ({ data }) => resolve(data.heardAt);
  tap.port.postMessage("listen");
})"""


async def first_sound(stage: Stage, text: str) -> dict[str, float]:
    """Milliseconds of each part, for one sentence; it is stopped once it sounds."""
    page = stage.page
    await page.fill("#text", text)
    heard = asyncio.create_task(page.evaluate(_LISTEN))
    await asyncio.sleep(0.1)
    await page.click("#speak")
    heard_at = await heard
    times = await page.evaluate("times")
    await page.keyboard.press("Escape")
    await page.wait_for_function("() => document.querySelector('#stop').disabled")
    await asyncio.sleep(0.3)
    marks = [times["click"], times["sent"], times["arrived"], times["decoded"], heard_at]
    parts = dict(zip(PARTS, np.diff(marks).tolist(), strict=True))
    return {"first_sound": heard_at - times["click"], **parts}


async def run(*, num_rounds: int, daemon_arguments: list[str]) -> dict[str, object]:
    async with chromium() as browser, own_daemon(daemon_arguments) as own:
        stage = await Stage.open(browser, page_url(own), **TAPPED)
        await stage.until_ready()
        await stage.tap()
        await stage.page.evaluate(_WATCH)
        await first_sound(stage, SENTENCES[0])
        found = [
            await first_sound(stage, text) for _round in range(num_rounds) for text in SENTENCES
        ]
        facts = await stage.page.evaluate(
            """() => ({ model: chatterbox.player.offer.model, format: chatterbox.player.format,
              output_latency_ms: 1000 * chatterbox.player.output.context.outputLatency })"""
        )
    median = {name: round(float(np.median([item[name] for item in found])), 1) for name in PARTS}
    total = [item["first_sound"] for item in found]
    return {
        "bench": "browser",
        **facts,
        "browser": "chromium",
        "sentences": len(SENTENCES),
        "rounds": num_rounds,
        "first_sound_ms_p50": round(float(np.percentile(total, 50)), 1),
        "first_sound_ms_p95": round(float(np.percentile(total, 95)), 1),
        "split_ms_p50": median,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="First sound in a browser.")
    parser.add_argument("--rounds", type=int, default=3, help="passes over the sentences")
    arguments, daemon_arguments = parser.parse_known_args()
    try:
        result = asyncio.run(run(num_rounds=arguments.rounds, daemon_arguments=daemon_arguments))
    except pytest.skip.Exception as reason:
        result = {"bench": "browser", "skipped": str(reason)}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
