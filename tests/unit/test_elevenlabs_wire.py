"""Characters with times for ElevenLabs' clients, and what their messages and queries mean."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatterbox.api import SAMPLE_RATE
from chatterbox.sine import SineEngine
from daemon.dialects.elevenlabs_alignment import Alignment, Stretch
from daemon.dialects.elevenlabs_wire import (
    OUTPUT_FORMATS,
    ElevenLabsError,
    Wanted,
    error_message,
    parse_message,
    parse_query,
)
from daemon.formats.choice import CONTENT_TYPES
from daemon.speaking.outputs import TimedWord
from daemon.wire.errors import BadMessage, Busy, TooManyContexts

INFO = SineEngine(num_slots=1, samples_per_step=4800).info
MS = SAMPLE_RATE // 1000


def timed(text: str, *, word_ms: int = 300, gap_ms: int = 100) -> list[TimedWord]:
    """Each run of the text, one after the other."""
    words, at_ms, position = [], gap_ms, 0
    for run in text.split():
        start = text.index(run, position)
        position = start + len(run)
        words.append(
            TimedWord(
                text=run,
                start=start,
                end=position,
                start_sample=at_ms * MS,
                end_sample=(at_ms + word_ms) * MS,
            )
        )
        at_ms += word_ms + gap_ms
    return words


class Listener:
    """Adds up what it gets as Pipecat does: a message begins where the last aligned one ended, and
    a word counts once a space follows it."""

    def __init__(self) -> None:
        self.words: list[tuple[str, int]] = []
        self.now_ms = 0
        self._word = ""
        self._start_ms = 0

    def hear(self, wire: dict[str, Any]) -> None:
        starts, durations = wire["charStartTimesMs"], wire["charDurationsMs"]
        assert len(wire["chars"]) == len(starts) == len(durations) > 0
        assert min(durations) >= 0
        assert starts == sorted(starts)
        for char, start_ms in zip(wire["chars"], starts, strict=True):
            if char == " ":
                if self._word:
                    self.words.append((self._word, self._start_ms))
                self._word = ""
            else:
                if not self._word:
                    self._start_ms = self.now_ms + start_ms
                self._word += char
        self.now_ms += starts[-1] + durations[-1]


@given(
    st.lists(st.sampled_from(["a", "Hello", "wörld,", "2", "extraordinary"]), min_size=1),
    st.lists(st.integers(1, 900), min_size=1),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_stretches_cover_the_audio_and_lose_no_word(
    runs: list[str], pieces_ms: list[int], is_late: bool
) -> None:
    """A gap of some ms in every message adds up: the words drift away from the sound. A word that
    becomes known only when it is through must still come, in its place in the text."""
    text = " ".join(runs) + " "
    words = timed(text)
    total_ms = words[-1].end_sample // MS + 30
    alignment, listener = Alignment(), Listener()
    alignment.add_text(text)
    waiting, done_ms = list(words), 0
    for piece_ms in itertools.cycle(pieces_ms):
        done_ms = min(done_ms + piece_ms, total_ms)
        while waiting and (waiting[0].end_sample if is_late else waiting[0].start_sample) < (
            done_ms * MS
        ):
            alignment.add_word(waiting.pop(0))
        stretch = alignment.take(done_ms * MS)
        if stretch is not None:
            assert stretch.end_ms == done_ms
            listener.hear(stretch.to_wire())
            assert listener.now_ms == done_ms
        if done_ms == total_ms:
            break
    rest = alignment.take_rest(total_ms * MS)
    if rest is not None:
        listener.hear(rest.to_wire())
    assert listener.now_ms == total_ms
    assert [word for word, _start_ms in listener.words] == runs
    if not is_late:
        for (_word, start_ms), word in zip(listener.words, words, strict=True):
            assert start_ms == pytest.approx(word.start_sample / MS, abs=1)


def test_characters_share_their_word_s_time() -> None:
    """All characters at the start of the word would light up the word's end too early."""
    alignment = Alignment()
    alignment.add_text("Hey you ")
    for word in timed("Hey you "):
        alignment.add_word(word)
    stretch = alignment.take(830 * MS)
    assert stretch == Stretch(
        list("Hey you "), [100, 200, 300, 400, 500, 600, 700, 800], base_ms=0, end_ms=830
    )
    assert stretch.to_wire()["charDurationsMs"] == [100] * 7 + [30]


def test_absolute_times_count_from_the_context() -> None:
    """LiveKit takes them so; relative ones would put the second message's words into the first."""
    alignment = Alignment()
    alignment.add_text("one two ")
    for word in timed("one two "):
        alignment.add_word(word)
    assert alignment.take(400 * MS) is not None
    stretch = alignment.take(900 * MS)
    assert stretch is not None
    assert stretch.to_wire()["charStartTimesMs"] == [0, 100, 200, 300, 400]
    assert stretch.to_wire(is_absolute=True)["charStartTimesMs"] == [400, 500, 600, 700, 800]


def test_audio_at_another_tempo_has_other_times() -> None:
    """Words at the speaker's own pace would run behind faster audio."""
    alignment = Alignment(tempo=1.25)
    alignment.add_text("word ")
    alignment.add_word(timed("word ", word_ms=400, gap_ms=0)[0])
    stretch = alignment.take(500 * MS)
    assert stretch is not None
    assert (stretch.starts_ms, stretch.end_ms) == ([0, 80, 160, 240, 320], 400)


def test_silence_behind_the_last_word_is_covered() -> None:
    """A break that ends a text; what a client adds up would be less than what it plays."""
    alignment = Alignment()
    alignment.add_text("word ")
    alignment.add_word(timed("word ", word_ms=400, gap_ms=0)[0])
    assert alignment.take(430 * MS) is not None
    assert alignment.take(1000 * MS) is None
    rest = alignment.take_rest(1430 * MS)
    assert rest is not None
    assert (rest.chars, rest.base_ms, rest.end_ms) == ([" "], 430, 1430)
    assert alignment.take_rest(1430 * MS) is None


def test_words_without_space_between_them_get_none() -> None:
    """In Chinese every character is a word of ours; spaces would be read into the transcript."""
    alignment = Alignment()
    alignment.add_text("你好<break/>吗")
    for place, (start, end) in enumerate([(0, 1), (1, 2), (10, 11)]):
        alignment.add_word(
            TimedWord(
                text="",
                start=start,
                end=end,
                start_sample=100 * place * MS,
                end_sample=100 * (place + 1) * MS,
            )
        )
    stretch = alignment.take(300 * MS)
    assert stretch is not None
    assert "".join(stretch.chars) == "你好 吗"


# --- messages -------------------------------------------------------------------------------------


def test_messages_mean_what_clients_send() -> None:
    """Both spellings of the id, texts that are left out, and fields that nobody knows."""
    message = parse_message({"text": " ", "contextId": "c", "voice_settings": {"stability": 0.5}})
    assert (message.context, message.text, message.has_text) == ("c", " ", True)
    message = parse_message({"context_id": "c", "flush": True, "keep_alive": True})
    assert (message.context, message.text, message.has_text, message.flush) == (
        "c",
        "",
        False,
        True,
    )
    message = parse_message({"text": None, "close_context": True, "flush": None})
    assert (message.context, message.close_context, message.flush) == ("default", True, False)
    assert parse_message({"voice_settings": {"speed": 1.1}}).speed == 1.1
    assert parse_message({"voice_settings": {"speed": None}}).speed == 1.0


@pytest.mark.parametrize(
    "body",
    [
        {"text": 5},
        {"text": "\ud800"},
        {"context_id": ["a"]},
        {"context_id": "x" * 300},
        {"flush": "yes"},
        {"close_socket": 1},
        {"voice_settings": []},
        {"voice_settings": {"speed": "fast"}},
        {"voice_settings": {"speed": True}},
        {"voice_settings": {"speed": 3}},
        {"voice_settings": {"speed": float("nan")}},
    ],
)
def test_wrong_types_are_refused(body: dict[str, object]) -> None:
    """What passes as something else is said wrongly, or breaks further in."""
    with pytest.raises(BadMessage):
        parse_message(body)


def query(**fields: str) -> Wanted:
    return parse_query(fields, INFO)


def test_queries() -> None:
    """Unknown parameters are ignored, and an inactivity of more than the most is the most."""
    wanted = query(model_id="eleven_flash_v2_5", output_format="pcm_16000", auto_mode="true", x="1")
    assert (wanted.format.encoding, wanted.format.sample_rate, wanted.is_auto) == (
        "pcm",
        16_000,
        True,
    )
    assert query().output == "mp3_44100_128"
    assert query(inactivity_timeout="300").inactivity_s == 180
    assert query(inactivity_timeout="soon").inactivity_s == query().inactivity_s == 20
    assert query(inactivity_timeout="nan").inactivity_s == 20
    assert query(inactivity_timeout="-1").inactivity_s == 1
    language = INFO.languages[0]
    assert query(language_code=f"{language}-XX").language == language
    assert query(seed=str(2**31)).seed == 0
    assert {item.encoding for item in OUTPUT_FORMATS.values()} <= set(CONTENT_TYPES)


def test_livekit_reads_absolute_times_wherever_it_reads() -> None:
    """In Chinese it takes the other table: counted from the message, all words of a turn came in
    its first half second."""
    info = replace(INFO, languages=("en", "zh"))
    asked = {"sync_alignment": "true"}
    assert parse_query({}, info).absolute == set()
    assert parse_query(asked, info).absolute == {"normalizedAlignment"}
    assert parse_query({**asked, "language_code": "zh"}, info).absolute == {"alignment"}


@pytest.mark.parametrize(
    "fields", [{"output_format": "ogg"}, {"language_code": "xx"}, {"seed": "²"}, {"seed": "-1"}]
)
def test_queries_that_cannot_be_met(fields: dict[str, str]) -> None:
    """Refused before the upgrade, with a sentence that says what there is."""
    with pytest.raises(ElevenLabsError) as caught:
        parse_query(fields, INFO)
    assert caught.value.status == 400
    assert set(caught.value.body["detail"]) >= {"status", "message"}


def test_errors_are_in_their_form() -> None:
    """Clients fail a context by `error` and `contextId`; without the id they only log it."""
    body = error_message(TooManyContexts("2 are open"), context="c")
    assert json.loads(json.dumps(body))["error"] == "max_active_conversations"
    assert body["contextId"] == "c"
    assert "contextId" not in error_message(Busy("no slot"), context=None)
