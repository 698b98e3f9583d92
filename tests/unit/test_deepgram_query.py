"""Deepgram's queries: whose voice a model's name is, rates that are left out, speeds in steps."""

import pytest

from daemon.dialects.deepgram_query import AURA_SPEEDS, FLUX_SPEEDS, parse_query, resolve_model
from daemon.dialects.deepgram_wire import DeepgramError

OURS = {"heart": "heart", "helena": "helena", "their-own": "heart"}


@pytest.mark.parametrize(
    ("model", "voice", "language"),
    [
        ("", "heart", None),
        ("helena", "helena", None),
        ("their-own", "heart", None),
        ("aura-2-helena-en", "helena", "en"),
        ("aura-asteria-en", "heart", "en"),
        ("flux-alexis-de", "heart", "de"),
        ("flux-alexis", "flux-alexis", None),
        ("aura-2-Helena-en", "aura-2-Helena-en", None),
    ],
)
def test_a_models_name_is_a_voice(model: str, voice: str, language: str | None) -> None:
    """Both frameworks send a name of Deepgram's unless told otherwise: it must connect; a name that
    is nobody's must not pass for the default."""
    assert resolve_model(model, voice_of=OURS.get, default="heart") == (voice, language)


@pytest.mark.parametrize(
    ("query", "audio_format", "sample_rate"),
    [
        ({}, "pcm", 24_000),
        ({"encoding": "linear16", "sample_rate": "44100"}, "pcm", 44_100),
        ({"encoding": "mulaw"}, "ulaw", 8_000),
        ({"encoding": "alaw", "sample_rate": "16000"}, "alaw", 16_000),
        ({"container": "none", "mip_opt_out": "true", "tag": "a", "bit_rate": "9"}, "pcm", 24_000),
    ],
)
def test_a_query_has_deepgrams_defaults(
    query: dict[str, str], audio_format: str, sample_rate: int
) -> None:
    """A telephone's client leaves the rate out and expects 8000; unknown fields harm nobody."""
    wanted = parse_query(query, voice_of=OURS.get, default_voice="heart", speeds=AURA_SPEEDS)
    assert (wanted.audio_format, wanted.sample_rate) == (audio_format, sample_rate)
    assert (wanted.voice, wanted.model, wanted.speed) == ("heart", "heart", 1.0)


def test_flux_takes_speeds_in_steps_and_aura_any() -> None:
    """0.3 / 0.05 is not 6 in floating point: the 0.05 grid must not refuse its own points."""
    for step in range(10, 31):
        assert FLUX_SPEEDS.check(step * 0.05) == step * 0.05
        assert FLUX_SPEEDS.check(round(step * 0.05, 2)) == round(step * 0.05, 2)
    with pytest.raises(DeepgramError, match="multiple"):
        FLUX_SPEEDS.check(1.02)
    assert AURA_SPEEDS.check(1.02) == 1.02
    with pytest.raises(DeepgramError, match="between"):
        AURA_SPEEDS.check(0.69)
