"""The Python snippet of README.md, run against a real daemon."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from chatterboxd_client.spawn import own_daemon

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_python_snippet_hears_something(tmp_path: Path) -> None:
    """The first code that a newcomer copies must work as printed."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    assert found
    snippet = found[1]
    assert "ws://127.0.0.1:8765" in snippet

    async def run() -> str:
        async with own_daemon(["--engine", "sine"]) as daemon:
            code = snippet.replace("ws://127.0.0.1:8765", daemon.url)
            result = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", code],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert result.returncode == 0, result.stderr
            return result.stdout

    lines = asyncio.run(run()).splitlines()
    num_samples, separator, _rest = lines[-1].partition(" samples, first audio after ")
    assert separator
    assert (tmp_path / "hello.wav").stat().st_size == 44 + 2 * int(num_samples)
    assert int(num_samples) > 4_800
