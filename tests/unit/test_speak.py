"""The pure parts of chatterboxd_client/speak.py: pieces of text, the report, the command line."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from chatterboxd_client.listening import Audio, Timings
from chatterboxd_client.speak import (
    PIECE_CHARS,
    CannotSpeak,
    check_writable,
    parse_arguments,
    pieces_of,
    report,
)
from chatterboxd_client.speaking import write_wav


@pytest.mark.parametrize(
    "text",
    ["", " ", "Hello there.", "  two\n\nlines \t", 'it\'s $5, "quoted"', "naïve 你好 😀", "a" * 99],
)
def test_pieces_join_to_the_text(text: str) -> None:
    """A piece lost at a line break or around white space would change what is spoken."""
    pieces = list(pieces_of(text))
    assert "".join(pieces) == text
    assert all(piece and len(piece.strip()) <= PIECE_CHARS for piece in pieces)


def test_long_words_come_in_several_pieces() -> None:
    """An LLM splits words; sending whole words would hide faults in how the daemon joins them."""
    assert list(pieces_of("unbelievable news")) == ["unbe", "liev", "able", " news"]


def test_report_is_one_json_line_with_the_four_figures() -> None:
    """Scripts read the last line of `make speak`; its keys and nulls are a contract."""
    timings = Timings(sample_rate=24_000)
    assert json.loads(report(timings)) == {
        "first_audio_ms": None,
        "audio_s": 0.0,
        "real_time_factor": None,
        "packets": 0,
    }
    timings.text_sent_at = 1.0
    timings.note(Audio(sequence=0, samples=np.full(480, 9_000, np.int16), received_at=1.2345))
    assert report(timings) == (
        '{"first_audio_ms": 234.5, "audio_s": 0.02, "real_time_factor": 11.725, "packets": 1}'
    )


def test_the_wav_file_holds_the_samples(tmp_path: Path) -> None:
    """Byte order and header: the file must play anywhere."""
    samples = np.array([0, 1, -2, 32_767, -32_768], np.int16)
    write_wav(tmp_path / "a.wav", samples, sample_rate=24_000)
    with wave.open(str(tmp_path / "a.wav")) as wav:
        assert wav.getparams()[:4] == (1, 2, 24_000, 5)
        assert np.frombuffer(wav.readframes(5), "<i2").tolist() == samples.tolist()


def test_an_unwritable_file_is_refused_before_any_work(tmp_path: Path) -> None:
    """Otherwise the user learns of a typing error in OUT only after the speech was made."""
    check_writable(tmp_path / "new.wav")
    for path in (tmp_path / "no folder" / "a.wav", tmp_path):
        with pytest.raises(CannotSpeak, match="cannot be written"):
            check_writable(path)


def test_text_may_begin_with_a_dash() -> None:
    """`make speak TEXT="-5 degrees"` must not be read as an option."""
    assert parse_arguments(["--text=-5 degrees"]).text == "-5 degrees"
