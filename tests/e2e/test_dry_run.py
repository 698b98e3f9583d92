"""`python -m daemon --dry-run` as an operator runs it."""

import os
import subprocess
import sys
from pathlib import Path


def _run(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "daemon", "--dry-run", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environ,
    )


def test_it_prints_and_ends(tmp_path: Path) -> None:
    """It opens no port, and its status says whether the daemon would start."""
    done = _run("--slots", "2")
    assert done.returncode == 0, done.stderr
    for word in ("t3.safetensors", "parameters", "each slot", "--slots 2 does"):
        assert word in done.stdout
    refused = _run("--model", str(tmp_path))
    assert refused.returncode == 1
    assert "no checkpoint there" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_tones_need_nothing() -> None:
    """The sine engine has no files; the question must not fail."""
    done = _run("--engine", "sine")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_is_looked_up_and_not_fetched(tmp_path: Path) -> None:
    """A question must not take three gigabytes; the answer is how to get them."""
    refused = _run("--model", "turbo", HF_HOME=str(tmp_path), HF_ENDPOINT="http://127.0.0.1:1")
    assert refused.returncode == 1
    assert "lacks t3_turbo_v1.safetensors" in refused.stderr
    assert "python -m chatterbox.hub turbo" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
