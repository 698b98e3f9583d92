"""config.json of a checkpoint: what is wrong in it is said, with file and key."""

import json
from pathlib import Path

import pytest

from chatterbox.config import ConfigError, ModelConfig, T3Config, VocoderConfig

BUNDLED = Path(__file__).parents[2] / "chatterbox" / "checkpoints" / "tiny" / "config.json"


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_bundled_config_loads() -> None:
    """The file in the repository must be one that this code reads."""
    config = ModelConfig.load(BUNDLED)
    assert config.flow.block_causal
    assert config.flow.first_windows == (8, 8, 16)
    assert {option.name for option in config.options} >= {"temperature", "top_p"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"nam": "x"}, "unknown key nam"),
        ({"t3": {"layer": 3}}, "unknown key t3.layer; valid ones: .*layers"),
        ({"t3": 3}, "t3. must be an object"),
        ({"t3": {"heads": 3}}, "t3.heads 3 must divide"),
        ({"t3": {"positions": 10}}, "t3.positions 10 is below"),
        ({"vocoder": {"hop": 5}}, "vocoder.hop .* is 600, not 480"),
    ],
)
def test_mistakes_name_file_and_key(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    """A typo that were ignored would load a model of the wrong size, or with a default."""
    path = _written(tmp_path, json.dumps({"name": "test"} | change))
    with pytest.raises(ConfigError, match=f"config.json: .*{complaint}"):
        ModelConfig.load(path)


def test_absent_broken_or_nameless_file(tmp_path: Path) -> None:
    """Each of the three says what to do."""
    with pytest.raises(ConfigError, match="no such file; a checkpoint folder holds"):
        ModelConfig.load(tmp_path / "config.json")
    with pytest.raises(ConfigError, match="not JSON"):
        ModelConfig.load(_written(tmp_path, "{"))
    with pytest.raises(ConfigError, match="key name is missing"):
        ModelConfig.load(_written(tmp_path, "{}"))


def test_defaults_are_the_published_sizes() -> None:
    """Turbo: 376 rows of conditioning, 1,000 tokens at most; HiFT with 9 sines."""
    assert T3Config().prefix_tokens == 376
    assert T3Config().max_speech_tokens == 1000
    assert VocoderConfig().sines == 9
