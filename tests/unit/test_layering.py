"""Who may import whom: the daemon without torch, and import contracts that really can break."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DAEMON_MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "daemon").rglob("*.py")
    if path.stem[0] != "_"
)
# The first lines of every subprocess: torch and the libraries of the model cannot be imported.
BLOCK_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchaudio", "safetensors", "hibari", "onnxruntime"}:
            raise ImportError(f"{name} must not be imported here")

sys.meta_path.insert(0, Blocker())
"""


def run_without_torch(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCK_TORCH + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_blocker_blocks() -> None:
    """If the blocker let torch through, the tests below could not fail."""
    result = run_without_torch("import torch")
    assert result.returncode != 0
    assert "must not be imported here" in result.stderr


def test_every_daemon_module_imports_without_torch() -> None:
    """One import of torch in the daemon costs seconds at start and ties it to one model."""
    assert "daemon.server" in DAEMON_MODULES
    result = run_without_torch("\n".join(f"import {name}" for name in DAEMON_MODULES))
    assert result.returncode == 0, result.stderr


def test_the_command_line_works_without_torch() -> None:
    """`--help` and the sine engine must not wait for torch, nor need it installed."""
    code = (
        "import runpy\n"
        "sys.argv = ['daemon', '--engine', 'sine', '--help']\n"
        "runpy.run_module('daemon', run_name='__main__', alter_sys=True)\n"
    )
    result = run_without_torch(code)
    assert result.returncode == 0, result.stderr
    assert "--engine" in result.stdout
    sine = run_without_torch("from chatterbox.sine import SineEngine; SineEngine().warm_up()")
    assert sine.returncode == 0, sine.stderr


def test_importing_chatterbox_does_not_load_torch() -> None:
    """The daemon imports chatterbox.api; loading torch on the way would defeat the rule above."""
    result = run_without_torch("import chatterbox, chatterbox.api")
    assert result.returncode == 0, result.stderr


def test_the_contract_imports_the_standard_library_and_numpy_only() -> None:
    """Everybody may import chatterbox.api because it imports nobody."""
    tree = ast.parse((ROOT / "chatterbox" / "api.py").read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy"}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def copied_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for package in ("daemon", "chatterbox", "chatterboxd_client"):
        ignored = shutil.ignore_patterns("__pycache__", "checkpoints")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_contracts_hold_on_the_copy(copied_source: Path) -> None:
    """Without this, the violations below could be found for some other reason."""
    result = lint_imports(copied_source)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "violation", "contract"),
    [
        ("daemon/session.py", "import torch", "The daemon runs without torch"),
        ("daemon/session.py", "import chatterbox.sine", "the daemon knows the contract alone"),
        ("daemon/server.py", "import threading", "Only the engine thread is a thread"),
        ("daemon/engine/scheduler.py", "import time", "Pure modules"),
        ("daemon/wire/protocol.py", "import daemon.server", "Pure modules"),
        ("chatterbox/api.py", "import chatterbox.engine", "The contract knows nobody"),
        ("chatterbox/engine.py", "import daemon.config", "knows nothing of the daemon"),
        ("chatterbox/sine.py", "def f():\n    import asyncio", "knows nothing of the daemon"),
        ("chatterbox/engine.py", "import chatterbox.training", "Speaking needs no training code"),
        ("chatterboxd_client/session.py", "import daemon.server", "share the wire protocol"),
        ("daemon/routes.py", "import chatterboxd_client", "does not know its client"),
        ("daemon/door/gate.py", "import daemon.routes", "rooms, from the top down"),
        ("daemon/dialects/wyoming.py", "import daemon.dialects.openai", "No dialect knows another"),
        ("daemon/dialects/openai.py", "import daemon.engine.thread", "Dialects know the studio"),
        ("daemon/dialects/line.py", "import daemon.session", "Dialects know the studio"),
    ],
)
def test_a_violating_import_breaks_its_contract(
    copied_source: Path, file: str, violation: str, contract: str
) -> None:
    """A contract that no import can break is decoration (a misspelt module name is enough)."""
    path = copied_source / file
    original = path.read_text()
    path.write_text(f"{original}\n{violation}\n")
    try:
        result = lint_imports(copied_source)
    finally:
        path.write_text(original)
    assert result.returncode != 0
    broken = [line for line in result.stdout.splitlines() if "BROKEN" in line]
    assert any(contract in line for line in broken), result.stdout
