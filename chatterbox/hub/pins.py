"""`pins.toml` → which files of which repository make a checkpoint, and what each must be."""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("pins.toml")
DEFAULT_MULTILINGUAL = "multilingual_v2"
"""What the reference loads where only "multilingual" is asked for."""


class HubError(ValueError):
    """A file of an official checkpoint cannot be had, or is not what it must be. The message names
    it and says what to do.
    """


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """One file of a repository."""

    name: str
    num_bytes: int
    sha256: str
    is_optional: bool = False

    def verify(self, path: Path, *, remedy: str) -> None:
        """Raises `HubError` unless `path` holds this very file."""
        found = path.stat().st_size
        if found != self.num_bytes:
            raise HubError(
                f"{path} has {found:,} bytes, {self.name} {self.num_bytes:,}: interrupted, or"
                f" another file; {remedy}"
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self.sha256:
            raise HubError(
                f"{path} is damaged, or another file: its SHA-256 is {digest}, that of {self.name}"
                f" {self.sha256}; {remedy}"
            )


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """One official checkpoint."""

    name: str
    repository: str
    revision: str
    licence: str
    files: tuple[PinnedFile, ...]
    """Optional ones first: whoever has all others, and lacks one, has taken it away."""

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)

    def __str__(self) -> str:
        return f"{self.repository} at {self.revision[:7]} ({self.licence})"


@cache
def pinned_models() -> Mapping[str, PinnedModel]:
    """Every checkpoint of the table by its name; `multilingual` is the default one of two."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    models = {}
    for name, wanted in table["models"].items():
        repository = table["repositories"][wanted["repository"]]
        pins = repository["files"]
        models[name] = PinnedModel(
            name,
            repository["id"],
            repository["revision"],
            repository["licence"],
            tuple(
                PinnedFile(file, pins[file]["bytes"], pins[file]["sha256"], is_optional)
                for kind, is_optional in (("optional", True), ("files", False))
                for file in wanted[kind]
            ),
        )
    return models | {"multilingual": models[DEFAULT_MULTILINGUAL]}
