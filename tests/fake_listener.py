"""Paths of clips in, voices out, one JSON object a line: stands in for `chatterbox.cloning`.

What is in a clip says what happens: see `_DEEDS`. `--unloadable` fails as a missing
checkpoint does.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _crash(_out: Path) -> None:
    sys.stderr.write("a bug in a decoder\n")
    sys.stderr.flush()
    os._exit(139)


def _hang(_out: Path) -> None:
    time.sleep(600)


def _work(out: Path) -> None:
    """Until somebody puts a file there."""
    end_s = time.monotonic() + 60.0
    while time.monotonic() < end_s and not (out.parent / "enough").exists():
        pass


def _take_memory(_out: Path) -> None:
    if not bytearray(2 * 2**30):
        raise AssertionError("an array of no length")


def _write_much(out: Path) -> None:
    with out.open("wb", buffering=0) as file:
        file.seek(65 * 2**20)
        file.write(b"x")


def _talk_nonsense(_out: Path) -> None:
    sys.stdout.write("Segmentation fault, maybe\n")
    sys.stdout.flush()


def _chatter(_out: Path) -> None:
    sys.stderr.write("Note: Trying to resync...\n" * 5_000)
    sys.stderr.flush()


def _leave_a_child(_out: Path) -> None:
    """It holds our standard error open for longer than anybody waits."""
    subprocess.Popen(["sleep", "4"], start_new_session=True, stdin=subprocess.DEVNULL)


_DEEDS: dict[bytes, Callable[[Path], None]] = {
    b"CRASH": _crash,
    b"HANG": _hang,
    b"WORK": _work,
    b"MEMORY": _take_memory,
    b"MUCH": _write_much,
    b"NONSENSE": _talk_nonsense,
    b"CHATTER": _chatter,
    b"ORPHAN": _leave_a_child,
}


def _answer(request: dict[str, str]) -> dict[str, Any]:
    clip, out = Path(request["clip"]).read_bytes(), Path(request["out"])
    for word, deed in _DEEDS.items():
        if word in clip:
            deed(out)
    if b"SILENT" in clip:
        return {"error": "the clip is silent"}
    if b"UNABLE" in clip:
        return {"failed": "the disk is full"}
    if b"GIBBERISH" in clip:
        return {"ok": True, "seconds": "long", "cached": False, "warnings": 5}
    if b"FORGET" not in clip:
        told = json.dumps(dict(os.environ)).encode() if b"ENVIRONMENT" in clip else b""
        out.write_bytes(b"voice of " + clip + told)
    warnings = ["a bit loud"] if b"LOUD" in clip else []
    return {"ok": True, "seconds": len(clip) / 1000, "cached": False, "warnings": warnings}


def main() -> None:
    if "--unloadable" in sys.argv:
        sys.stdout.write(json.dumps({"error": "no speech tokenizer here"}) + "\n")
        return
    sys.stdout.write(json.dumps({"ready": True, "model": "fake"}) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        try:
            answer = _answer(json.loads(line))
        except (MemoryError, OSError) as error:
            answer = {"error": type(error).__name__}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
