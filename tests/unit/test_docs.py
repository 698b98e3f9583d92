"""README.md and ARCHITECTURE.md against the repository: paths, the file tree, commands."""

import re
import subprocess
from pathlib import Path

import pytest

from daemon.settings import all_settings

ROOT = Path(__file__).resolve().parent.parent.parent
# A code span with a slash or a file's ending: `daemon/session.py`, `chatterbox/text`.
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|md|toml|txt))`")
LINK = re.compile(r"\]\(([^)#:]+)\)")


def read(name: str) -> str:
    return (ROOT / name).read_text()


def without_code_blocks(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.S)


def tree_of_files() -> dict[str, bool]:
    """Path → whether it is a folder that lists nothing inside. Two spaces indent one level."""
    block = read("ARCHITECTURE.md").rsplit("```", 2)[1]
    folders: list[str] = []
    paths: dict[str, bool] = {}
    for line in block.strip("\n").splitlines():
        match = re.match(r"( *)(\S+(?:/$|  +\S))", line)
        assert match, f"a file's line says what it is: {line!r}"
        depth = len(match[1]) // 2
        del folders[depth:]
        for level in range(depth):
            paths["".join(folders[: level + 1])] = False
        name = match[2].split()[0]
        path = "".join(folders) + name
        assert path not in paths, f"{path} is listed twice"
        paths[path] = path.endswith("/")
        if path.endswith("/"):
            folders.append(name)
    return paths


def tracked_files() -> list[str]:
    """What git tracks; in an unpacked archive, which has no git, every file outside dot folders."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    return [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and not path.relative_to(ROOT).parts[0].startswith(".")
    ]


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md"])
def test_every_path_named_in_a_document_exists(document: str) -> None:
    """A document that names last year's files misleads every newcomer."""
    prose = without_code_blocks(read(document))
    named = set(PATH.findall(prose)) | set(LINK.findall(prose))
    assert len(named) > 3
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert not missing


def test_every_function_of_the_walk_exists() -> None:
    """ARCHITECTURE.md names functions after their file: `daemon/session.py` `_read`."""
    named = re.findall(r"`(\S+\.py)`((?:,? `\w+`)+)", read("ARCHITECTURE.md"))
    assert len(named) > 8
    for path, spans in named:
        for function in re.findall(r"\w+", spans):
            assert re.search(rf"\bdef {function}\(", read(path)), f"{path}: {function}"


def test_every_path_of_the_tree_exists() -> None:
    """A file that moved or died must leave the tree, too."""
    tree = tree_of_files()
    assert len(tree) > 50
    assert not sorted(path for path in tree if not (ROOT / path).exists())


def test_every_tracked_file_is_in_the_tree() -> None:
    """A new file nobody finds in ARCHITECTURE.md is a file whose purpose nobody wrote down."""
    tree = tree_of_files()
    whole_folders = tuple(path for path, is_whole in tree.items() if is_whole)
    missing = [
        name
        for name in tracked_files()
        if name not in tree
        and not name.startswith(whole_folders)
        and Path(name).name not in ("__init__.py", ".gitignore")
    ]
    assert not missing


def test_every_make_command_named_exists() -> None:
    """`make X` in a document must be a target of the Makefile, with a help text."""
    targets = set(re.findall(r"(?m)^([a-z-]+):.*## ", read("Makefile")))
    for document in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md"):
        named = set(re.findall(r"(?:`|^ {4})make ([a-z-]+)", read(document), flags=re.M))
        assert named <= targets, f"{document}: {named - targets}"
    assert {"speak", "serve", "test", "check", "test-long", "bench", "gpu-check"} <= targets


def test_every_option_named_in_the_readme_exists() -> None:
    """An option in the README that the daemon does not know stops an operator at the first try."""
    options = {item.option for item in all_settings()} | {
        "--config",
        "--print-config",
        "--dry-run",
    }
    speak = read("chatterboxd_client/speak.py")
    prose = without_code_blocks(read("README.md"))
    named = set(re.findall(r"`(--[a-z][a-z-]+)", prose))
    assert len(named) > 5
    for option in named - {"--help"}:
        assert option in options or f'"{option}"' in speak, option
