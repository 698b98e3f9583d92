"""Ports, texts, modes and rounds as JSON on standard input; what wyoming-bench measured on output.

Run by the interpreter that has wyoming-bench. The systems take turns, text by text.
"""

import asyncio
import json
import sys
from typing import Any

from wyoming_bench.tts.client import measure_once

_LONGEST_S = 120.0


async def measure(asked: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for number in range(asked["rounds"] + 1):
        for mode in asked["modes"]:
            for text in asked["texts"]:
                for system, port in asked["ports"].items():
                    found = await measure_once(
                        *("127.0.0.1", port, mode, text, None, None),
                        connect_timeout=_LONGEST_S,
                        read_timeout=_LONGEST_S,
                    )
                    if not found.ok or found.ttft_s is None or found.total_s is None:
                        raise SystemExit(f"{system}: {found.error}")
                    if number:  # the first round warms up
                        rows.append(
                            {
                                "system": system,
                                "mode": mode,
                                "text": text,
                                "first_ms": 1000 * found.ttft_s,
                                "total_ms": 1000 * found.total_s,
                                "rtf": found.rtf,
                                "audio_s": found.audio_duration_s,
                            }
                        )
    return rows


if __name__ == "__main__":
    asked = json.loads(sys.stdin.read())
    sys.stdout.write(json.dumps(asyncio.run(measure(asked))))
