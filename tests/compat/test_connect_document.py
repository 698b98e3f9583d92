"""The snippets of docs/connect.md, as printed but for the addresses, against a daemon.

Those of other people's clients need their environment (`make test-compat`) and are skipped without.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.compat.stage import CLIENTS, CLIENTS_PYTHON
from tests.e2e.test_security import make_certificate
from tests.e2e.wire import Running, run, running

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = (ROOT / "docs" / "connect.md").read_text()
LONGEST_S = 60.0
OWN = ("chatterboxd_client", "wyoming")
"""What our own environment has as well."""


@dataclass(frozen=True, slots=True)
class Snippet:
    heading: str
    code: str

    @property
    def needs_clients(self) -> bool:
        imported = re.search(r"^(?:from|import) (?!asyncio)(\w+)", self.code, flags=re.M)
        return imported is not None and imported[1] not in OWN


def snippets() -> list[Snippet]:
    found = []
    for section in re.split(r"^#+ ", DOCUMENT, flags=re.M)[1:]:
        heading = section.partition("\n")[0].replace("`", "")
        blocks = re.findall(r"```python\n(.*?)```", section, flags=re.S)
        found += [Snippet(heading, code) for code in blocks]
    return found


def commands() -> list[str]:
    return re.findall(r"^    ((?:python -m daemon|OPENAI_API_KEY=).*)$", DOCUMENT, flags=re.M)


def test_every_client_has_a_snippet() -> None:
    """A heading that was renamed must not take its snippet out of the tests."""
    text = "\n".join(snippet.code for snippet in snippets())
    for word in ("openai", "pipecat", "livekit", "elevenlabs", "deepgram", "flux", "cartesia"):
        assert word in text, word
    assert any("chatterboxd_client" in snippet.code for snippet in snippets())
    assert any("wyoming" in snippet.code for snippet in snippets())
    assert len(commands()) >= 2


@pytest.mark.parametrize(
    "snippet",
    [
        pytest.param(
            snippet,
            marks=pytest.mark.skipif(
                snippet.needs_clients and CLIENTS_PYTHON is None,
                reason="`make test-compat` has the clients",
            ),
            id=f"{number}-{snippet.heading}",
        )
        for number, snippet in enumerate(snippets())
    ],
)
def test_a_snippet_speaks(
    snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a user copies must work as printed."""
    tls: dict[str, Any] = {}
    if "https://tts.example:8765" in snippet.code:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        chain, key = make_certificate(tmp_path, "own")
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
        tls = {"tls_cert": chain, "tls_key": key}

    async def talk() -> None:
        async with running(
            openai_port=0,
            wyoming="tcp://127.0.0.1:0",
            voice_aliases=("heart=sine",),
            **tls,
        ) as daemon:
            spoken = await asyncio.to_thread(speak, snippet, daemon, tmp_path)
            assert daemon.engine.diary.num_samples > 0, "nothing was said"
            assert all(spoken.values()), spoken

    run(talk(), longest_s=LONGEST_S)


def speak(snippet: Snippet, daemon: Running, folder: Path) -> dict[str, int]:
    doors = daemon.daemon.doors
    assert doors is not None
    code = snippet.code
    for printed, real in (
        ("https://tts.example:8765", f"https://127.0.0.1:{daemon.port}"),
        ("127.0.0.1:8766", f"127.0.0.1:{doors.openai_port}"),
        ("127.0.0.1:8765", f"127.0.0.1:{daemon.port}"),
        ("127.0.0.1:10700", f"127.0.0.1:{doors.wyoming_port}"),
        ('"127.0.0.1", 10700', f'"127.0.0.1", {doors.wyoming_port}'),
    ):
        code = code.replace(printed, real)
    path = folder / "snippet.py"
    path.write_text(code)
    python = CLIENTS_PYTHON if snippet.needs_clients else sys.executable
    assert python is not None
    done = subprocess.run(
        [python, str(CLIENTS / "run_snippet.py"), str(path)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "" if snippet.needs_clients else str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    spoken: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return spoken


@pytest.mark.parametrize("command", commands())
def test_a_command_is_taken(command: str, tmp_path: Path) -> None:
    """An option that was renamed, a file that was moved."""
    if command.startswith("python -m daemon"):
        command = command.replace("python", sys.executable, 1) + " --print-config"
        check_command(command, {})
        return
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    out = tmp_path / "morning.opus"
    assert out.name in command

    async def talk() -> None:
        async with running(openai_port=0) as daemon:
            assert daemon.daemon.doors is not None
            base = f"http://127.0.0.1:{daemon.daemon.doors.openai_port}/v1"
            await asyncio.to_thread(
                check_command, command.replace(out.name, str(out)), {"BASE_URL": base}
            )

    run(talk())
    assert out.read_bytes().startswith(b"OggS")


def check_command(command: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
