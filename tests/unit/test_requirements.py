"""requirements/*.txt: hashed, without an index, agreeing with each other and pyproject.toml."""

import itertools
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LOCKS = ("runtime", "compat", "watermark", "dev", "train")
APART = "compat-test"
"""Other people's programs, in an environment of their own."""


def pins_of(name: str) -> dict[str, tuple[str, int]]:
    """Package → (version and marker, number of hashes)."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    joined = text.replace("\\\n", " ")
    pins: dict[str, tuple[str, int]] = {}
    for line in joined.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        match = re.match(r"([a-z0-9-]+)==([^-]*?)\s+((?:--hash=sha256:[0-9a-f]{64}\s*)+)$", line)
        assert match, f"{name}: not a pinned, hashed requirement: {line[:80]}"
        package, pin, hashes = match.groups()
        previous, num_hashes = pins.get(package, ("", 0))
        pins[package] = (f"{previous} {pin}".strip(), num_hashes + hashes.count("--hash"))
    return pins


def direct_requirements(name: str) -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    if name == APART:
        return list(settings["dependency-groups"][name])
    project = settings["project"]
    extras = project["optional-dependencies"]
    wanted = list(project["dependencies"])
    for extra in LOCKS[1 : LOCKS.index(name) + 1]:
        wanted += extras[extra]
    return wanted


@pytest.mark.parametrize("name", [*LOCKS, APART])
def test_every_line_is_pinned_and_hashed_and_no_index_is_named(name: str) -> None:
    """An unhashed line breaks `--require-hashes`; a named index breaks mirrors and offline use."""
    assert len(pins_of(name)) > 20
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


@pytest.mark.parametrize("name", [*LOCKS, APART])
def test_direct_requirements_are_in_the_lock(name: str) -> None:
    """A dependency added to pyproject without `make lock` would be missing for every newcomer."""
    pins = pins_of(name)
    for requirement in direct_requirements(name):
        package = re.match(r"[A-Za-z0-9_.-]+", requirement)
        assert package
        assert package[0].lower() in pins, f"{requirement}: run `make lock`"
        exact = re.search(r"==([\d.]+)", requirement)
        if exact:
            assert pins[package[0]][0] == exact[1]


@pytest.mark.parametrize(("smaller", "larger"), list(itertools.pairwise(LOCKS)))
def test_a_larger_lock_holds_the_smaller_one_unchanged(smaller: str, larger: str) -> None:
    """`make test` after `make speak` must add packages, never swap versions under the daemon."""
    pins = pins_of(larger)
    assert {name: pins[name] for name in pins_of(smaller)} == pins_of(smaller)
    assert len(pins) > len(pins_of(smaller))
