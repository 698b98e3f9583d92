"""A checkpoint in the layout of the hub's cache, loaded by its name: found, verified, spoken."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from chatterbox.api import PcmChunk, Segment, SegmentId, SlotIndex
from chatterbox.checkpoint import CheckpointError
from chatterbox.hub import pins
from chatterbox.hub.pins import HubError
from chatterbox.loading import load_engine
from chatterbox.variants import VARIANTS, find_checkpoint
from chatterbox.voice import save_voice
from tests.e2e.hub_server import HubFiles, sha256, write_pins
from tests.e2e.test_official_shapes import small, write_folder
from tests.model.random_engine import random_voice


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Turbo at a small size, as the hub's cache keeps it, with a table of pins to match."""
    plain = tmp_path / "plain"
    plain.mkdir()
    config = small(VARIANTS["turbo"])
    write_folder(plain, config)
    (plain / "config.json").unlink()
    files = {path.name: path.read_bytes() for path in plain.iterdir()}
    table = write_pins(tmp_path / "pins.toml", HubFiles(large=files, small={}), name="turbo")
    monkeypatch.setattr(pins, "TABLE", table)
    monkeypatch.setitem(VARIANTS, "turbo", config)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    pins.pinned_models.cache_clear()
    model = pins.pinned_models()["turbo"]
    repository = tmp_path / "hub" / ("models--" + model.repository.replace("/", "--"))
    folder = repository / "snapshots" / model.revision
    folder.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for name, content in files.items():
        blob = repository / "blobs" / sha256(content)
        blob.write_bytes(content)
        (folder / name).symlink_to(f"../../blobs/{blob.name}")
    return folder


@pytest.fixture(autouse=True)
def _own_table() -> Iterator[None]:
    yield
    pins.pinned_models.cache_clear()


def test_a_checkpoint_speaks_by_its_name(snapshot: Path) -> None:
    """Name → cache → verified files → engine, with no network and no config of ours beside it."""
    engine = load_engine("turbo", offline=True, num_slots=1)
    assert engine.info.model == "turbo"
    assert list(engine.info.voices) == ["default"]
    engine.warm_up()
    slot = SlotIndex(0)
    engine.start(slot, Segment(id=SegmentId(1), text="Hello there.", voice="default"))
    samples: list[NDArray[np.float32]] = []
    is_last = False
    while not is_last:
        for event in engine.step([slot]):
            if isinstance(event, PcmChunk):
                samples.append(event.samples)
                is_last = event.is_last
    assert np.concatenate(samples).any()
    # The same files as a local folder, named by its variant.
    assert find_checkpoint(f"{snapshot}:turbo") == (snapshot, VARIANTS["turbo"])


def test_a_damaged_file_is_named_before_it_is_loaded(snapshot: Path) -> None:
    """The header is whole, so loading itself would not notice a flipped bit."""
    blob = (snapshot / "t3_turbo_v1.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[-10] ^= 1
    blob.write_bytes(content)
    with pytest.raises(HubError, match=r"t3_turbo_v1\.safetensors is damaged"):
        load_engine("turbo", offline=True, num_slots=1)


def test_a_cut_file_of_a_local_folder_is_named(snapshot: Path) -> None:
    """A folder has no pins; half a copy must be an error that names the file all the same."""
    blob = (snapshot / "s3gen_meanflow.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"s3gen_meanflow\.safetensors: not a whole"):
        load_engine(f"{snapshot}:turbo", num_slots=1)


def test_voices_of_ones_own(snapshot: Path, tmp_path: Path) -> None:
    """The hub's cache is no place for an operator's voices, and the default one of the official
    files is nobody's that is known: a folder of voices goes beside it, or replaces it.
    """
    mine = tmp_path / "mine"
    mine.mkdir()
    voice = random_voice(
        replace(VARIANTS["turbo"], flow=replace(VARIANTS["turbo"].flow, max_prompt_tokens=50))
    )
    save_voice(mine / "ada.safetensors", voice)
    engine = load_engine("turbo", offline=True, extra_voices=mine, num_slots=1)
    assert sorted(engine.info.voices) == ["ada", "default"]
    assert engine.info.default_voice == "default"
    (snapshot / "conds.pt").unlink()
    engine = load_engine("turbo", offline=True, extra_voices=mine, num_slots=1)
    assert list(engine.info.voices) == [engine.info.default_voice] == ["ada"]
    with pytest.raises(ValueError, match=r"python -m chatterbox\.voice"):
        load_engine("turbo", offline=True, num_slots=1)
