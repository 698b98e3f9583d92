"""The table of what is fetched from the hub: whole, and what the loaders ask for."""

import re
from pathlib import Path

import pytest

from chatterbox.hub.pins import HubError, PinnedFile, pinned_models
from chatterbox.text.languages import CANGJIE_FILE
from chatterbox.variants import VARIANTS

VOCABULARIES = {"gpt2": {"vocab.json", "merges.txt", "added_tokens.json"}}


def test_every_variant_has_a_name_and_all_of_its_files() -> None:
    """A file that loading reads and nobody fetched would be missing after a gigabyte."""
    models = pinned_models()
    assert {"turbo", "nano", "english", "multilingual"} <= set(models)
    assert {model.name for model in models.values()} == set(VARIANTS)
    for name, config in VARIANTS.items():
        needed = {config.files.t3, config.files.s3gen, config.files.voice_encoder}
        needed |= VOCABULARIES.get(config.text.front_end, {config.text.vocabulary})
        needed |= {CANGJIE_FILE} if "zh" in config.languages else set()
        files = models[name].files
        assert {file.name for file in files if not file.is_optional} == needed, name
        assert [file.name for file in files if file.is_optional] == ["conds.pt"]


def test_pins_are_whole_and_nothing_is_a_pickle() -> None:
    """A branch's name or half a hash pins nothing; the one pickle is read as tensors alone."""
    for model in pinned_models().values():
        assert re.fullmatch(r"[0-9a-f]{40}", model.revision)
        assert model.licence == "MIT"
        for file in model.files:
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256), file.name
            assert Path(file.name).suffix in {".safetensors", ".json", ".txt", ".pt"}


def test_the_same_file_has_the_same_pin_everywhere() -> None:
    """The voice encoder and the default voice are shared; a slip in one row would show here."""
    seen: dict[tuple[str, int], str] = {}
    for model in pinned_models().values():
        for file in model.files:
            assert seen.setdefault((file.name, file.num_bytes), file.sha256) == file.sha256


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"hell", "has 4 bytes, x 5"), (b"hallo", "is damaged"), (b"hello", None)],
)
def test_a_file_is_compared_by_size_and_hash(
    tmp_path: Path, content: bytes, told: str | None
) -> None:
    """Size alone misses a flipped bit; the remedy must be in the message."""
    path = tmp_path / "file"
    path.write_bytes(content)
    pin = PinnedFile("x", 5, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
    if told is None:
        pin.verify(path, remedy="do something")
        return
    with pytest.raises(HubError, match=f"{told}.*; do something"):
        pin.verify(path, remedy="do something")
