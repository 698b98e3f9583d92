"""Utterance: text in, segments out, audio in order, and a true account of what was said."""

import itertools

import numpy as np
import pytest

from chatterbox.api import (
    PcmChunk,
    Segment,
    SegmentFailed,
    SegmentId,
    SegmentWarning,
    SpokenWord,
    WordsTimed,
    WordTimes,
)
from daemon.speaking.outputs import (
    FlushReached,
    Samples,
    SegmentBegun,
    SegmentTrouble,
    UtteranceEnded,
    UtteranceOutput,
    WordsSpoken,
)
from daemon.speaking.segmenter import Segmenter
from daemon.speaking.utterance import IllegalTransition, SpeechSettings, Utterance, UtteranceState
from daemon.speaking.word_estimate import Paces, WordEstimate, word_spans
from daemon.wire.errors import TextAfterEnd, TextTooLong

MS = 24
"""Samples in a millisecond."""
TAIL = 30 * MS


def new_utterance(
    *, seed: int = 0, max_text_chars: int = 1000, word_times: WordTimes = "estimated"
) -> Utterance:
    ids = itertools.count(100)
    return Utterance(
        settings=SpeechSettings(voice="v", seed=seed, options={"speed": 1.0}),
        segmenter=Segmenter(max_chars=200),
        next_segment_id=lambda: SegmentId(next(ids)),
        max_text_chars=max_text_chars,
        word_times=word_times,
    )


def chunk(
    segment: Segment, value: float, num_samples: int = 2400, *, last: bool = True
) -> PcmChunk:
    samples = np.full(num_samples, value, dtype=np.float32)
    return PcmChunk(segment_id=segment.id, samples=samples, is_last=last)


def joined(outputs: list[UtteranceOutput]) -> list[tuple[float, int]]:
    """Runs of equal sample values: (value, length)."""
    pieces = [output.samples for output in outputs if isinstance(output, Samples)]
    flat = np.concatenate(pieces).round(3).astype(float).round(3).tolist() if pieces else []
    return [(value, len(list(run))) for value, run in itertools.groupby(flat)]


def test_every_segment_of_a_marked_utterance_asks_for_the_mark() -> None:
    """One unmarked segment would be speech that nobody can tell from a person's."""
    settings = SpeechSettings(voice="v", seed=0, options={}, watermark=True)
    utterance = Utterance(
        settings=settings,
        segmenter=Segmenter(max_chars=200),
        next_segment_id=lambda: SegmentId(1),
        max_text_chars=1000,
    )
    segments = utterance.add_text("One is said. Two is said. ") + utterance.end()
    assert len(segments) > 1
    assert all(segment.watermark for segment in segments)
    assert not any(item.watermark for item in new_utterance().add_text("One is said. And two. "))


def test_a_segment_carries_the_settings() -> None:
    """Voice, options and a seed of its own for each segment, the same every time."""
    utterance = new_utterance(seed=7)
    segments = utterance.add_text("One two. Three four. ") + utterance.end()
    assert [segment.text for segment in segments] == ["One two.", "Three four."]
    assert [segment.seed for segment in segments] == [7, 8]
    assert {segment.voice for segment in segments} == {"v"}
    assert segments[0].options == {"speed": 1.0}
    assert len({segment.id for segment in segments}) == 2


def test_the_largest_seed_is_followed_by_zero() -> None:
    """A seed beyond the engine's range would fail in the second segment only."""
    utterance = new_utterance(seed=2**31 - 1)
    segments = utterance.add_text("One two. Three four. ") + utterance.end()
    assert [segment.seed for segment in segments] == [2**31 - 1, 0]


def test_early_audio_of_a_later_segment_is_held_back() -> None:
    """Segments are generated side by side; words must still come in order."""
    utterance = new_utterance()
    first, second = utterance.add_text("One two. Three four. ") + utterance.end()
    assert utterance.take(chunk(second, 0.2)) == []
    outputs = utterance.take(chunk(first, 0.1, last=False))
    assert joined(outputs) == [(0.1, 2400)]
    outputs = utterance.take(chunk(first, 0.1))
    pause = 300 * MS
    assert joined(outputs) == [
        (0.1, 2400),
        (0.0, pause),
        (0.2, 2400),
        (0.0, TAIL),
    ]
    begun = [output for output in outputs if isinstance(output, SegmentBegun)]
    assert [(item.index, item.sample) for item in begun] == [(1, 4800 + pause)]
    ended = outputs[-1]
    assert isinstance(ended, UtteranceEnded)
    assert (ended.num_samples, ended.num_segments) == (4800 + pause + 2400 + TAIL, 2)
    assert utterance.state is UtteranceState.DONE


@pytest.mark.parametrize(
    ("text", "pause_ms"),
    [
        ("One two, three four.", 120),
        ("One two; three four.", 180),
        ("One two. Three four.", 300),
        ("One two.\n\nThree four.", 500),
    ],
)
def test_the_pause_follows_the_punctuation(text: str, pause_ms: int) -> None:
    """Speech without pauses is a wall of words."""
    utterance = new_utterance()
    first, second = utterance.add_text(text) + utterance.end()
    outputs = utterance.take(chunk(first, 0.1)) + utterance.take(chunk(second, 0.2))
    assert joined(outputs)[1] == (0.0, pause_ms * MS)


def test_when_text_arrives_does_not_change_the_audio() -> None:
    """Reproducible speech: the sum of pauses may not depend on who was first, text or audio."""
    early, late, stalled = new_utterance(), new_utterance(), new_utterance()

    segments = early.add_text("One two. Three four. ") + early.end()
    at_once = [output for item in segments for output in early.take(chunk(item, 0.1))]

    segments = late.add_text("One two. T")
    in_turns = late.take(chunk(segments[0], 0.1))
    segments = late.add_text("hree four. ")
    in_turns += late.advance()
    segments += late.end()
    in_turns += late.advance()
    in_turns += late.take(chunk(segments[-1], 0.1))

    segments = stalled.add_text("One two. ") + stalled.flush()
    with_end_last = stalled.advance() + stalled.take(chunk(segments[0], 0.1))
    segments = stalled.add_text("Three four. ") + stalled.flush()
    with_end_last += stalled.advance() + stalled.take(chunk(segments[0], 0.1))
    stalled.end()
    with_end_last += stalled.advance()

    assert joined(at_once) == joined(in_turns) == joined(with_end_last)
    for outputs in (at_once, in_turns, with_end_last):
        assert isinstance(outputs[-1], UtteranceEnded)


def test_a_stalling_writer_does_not_cut_the_last_word() -> None:
    """A tail of silence follows at once, to push the last samples through the codec."""
    utterance = new_utterance()
    (first,) = utterance.add_text("One two. T")
    outputs = utterance.take(chunk(first, 0.1))
    assert joined(outputs) == [(0.1, 2400), (0.0, TAIL)]
    assert TAIL > 480 + 156


def test_the_pause_is_sent_while_the_next_segment_is_made() -> None:
    """Pausing only after the next segment is ready would add its generation to the pause."""
    utterance = new_utterance()
    segments = utterance.add_text("One two. ")
    utterance.take(chunk((segments + utterance.flush())[0], 0.1))
    utterance.add_text("Three four. ")
    utterance.flush()
    outputs = utterance.advance()
    assert joined(outputs) == [(0.0, 300 * MS - TAIL)]
    assert all(output.is_pause for output in outputs if isinstance(output, Samples))


def test_flushes_are_reached_in_order_and_only_after_their_audio() -> None:
    """`flushed` tells an agent that its fragment is out; too early and it acts on a lie."""
    utterance = new_utterance()
    assert utterance.flush() == []
    assert utterance.advance() == [FlushReached(number=1, end=0, sample=0)]
    first, second = utterance.add_text("One two. Three") + utterance.flush()
    assert utterance.advance() == []
    outputs = utterance.take(chunk(first, 0.1))
    assert not [output for output in outputs if isinstance(output, FlushReached)]
    outputs = utterance.take(chunk(second, 0.1))
    total = 2400 + 300 * MS + 2400 + TAIL
    assert outputs[-1] == FlushReached(number=2, end=len("One two. Three"), sample=total)
    utterance.flush()
    assert utterance.advance() == [FlushReached(number=3, end=14, sample=total)]


def test_empty_text_ends_at_once() -> None:
    """Nobody will ever send news about a segment that does not exist."""
    utterance = new_utterance()
    assert utterance.add_text("") == []
    assert utterance.add_text(" \n") == []
    assert utterance.end() == []
    assert utterance.advance() == [UtteranceEnded(num_samples=0, num_segments=0, num_chars=2)]


def test_segments_without_audio_are_passed_over() -> None:
    """Emoji and failures leave neither a gap nor a deadlock."""
    utterance = new_utterance()
    first, second, third = utterance.add_text("One two. Three four. Five. ") + utterance.end()
    outputs = utterance.take(
        SegmentWarning(segment_id=first.id, code="unspeakable", message="nothing")
    )
    assert outputs == [
        SegmentTrouble(index=0, code="unspeakable", message="nothing", is_failure=False)
    ]
    assert utterance.take(chunk(first, 0.0, 0)) == []
    outputs = utterance.take(SegmentFailed(segment_id=second.id, message="broken"))
    assert outputs == [SegmentTrouble(index=1, code="failed", message="broken", is_failure=True)]
    outputs = utterance.take(chunk(third, 0.3))
    assert joined(outputs) == [(0.3, 2400), (0.0, TAIL)]
    assert outputs[-1] == UtteranceEnded(num_samples=2400 + TAIL, num_segments=1, num_chars=27)


def test_a_failure_in_mid_segment_keeps_what_was_spoken() -> None:
    """The listener has heard it; the count must include it."""
    utterance = new_utterance()
    (only,) = utterance.add_text("One two. ") + utterance.end()
    utterance.take(chunk(only, 0.1, last=False))
    outputs = utterance.take(SegmentFailed(segment_id=only.id, message="broken"))
    assert outputs[-1] == UtteranceEnded(num_samples=2400 + TAIL, num_segments=1, num_chars=9)


def test_the_text_limit_takes_nothing_of_the_message() -> None:
    """Half a message would be spoken as half a sentence."""
    utterance = new_utterance(max_text_chars=10)
    utterance.add_text("One two. ")
    with pytest.raises(TextTooLong):
        utterance.add_text("Three")
    assert utterance.text == "One two. "
    utterance.add_text("3")


def test_only_complete_words_are_spoken_when_the_writer_stalls() -> None:
    """Half a word is spoken wrongly, and cannot be taken back."""
    utterance = new_utterance()
    utterance.add_text("Let me look that u")
    assert [item.text for item in utterance.flush_complete_words()] == ["Let me look that"]
    assert utterance.has_pending_text
    utterance.add_text("p.")
    assert [item.text for item in utterance.end()] == ["up."]
    assert utterance.flush_complete_words() == []


# --- states ---------------------------------------------------------------------------------------


def test_text_after_the_end_is_refused() -> None:
    """Whatever is sent after `end` would be lost in silence."""
    utterance = new_utterance()
    utterance.end()
    with pytest.raises(TextAfterEnd):
        utterance.add_text("x")
    with pytest.raises(TextAfterEnd):
        utterance.flush()
    with pytest.raises(TextAfterEnd):
        utterance.end()


def test_a_cancelled_utterance_gives_out_nothing_more() -> None:
    """Events that were on their way must die here."""
    utterance = new_utterance()
    (first,) = utterance.add_text("One two. T")
    utterance.cancel()
    assert utterance.take(chunk(first, 0.1)) == []
    assert utterance.advance() == []
    with pytest.raises(TextAfterEnd):
        utterance.add_text("x")


def test_only_legal_moves() -> None:
    """A context that ends twice would send two totals; one that is cancelled stays so."""
    utterance = new_utterance()
    utterance.cancel()
    with pytest.raises(IllegalTransition):
        utterance.cancel()
    done = new_utterance()
    done.end()
    done.advance()
    assert done.state is UtteranceState.DONE
    assert done.advance() == []
    done.cancel()  # its audio may still be on its way to the listener
    with pytest.raises(IllegalTransition):
        done.cancel()


# --- words ----------------------------------------------------------------------------------------


def timed(segment: Segment, *words: tuple[int, int, int, int]) -> WordsTimed:
    """Words of a segment: character span, then begin and end in ms."""
    return WordsTimed(
        segment_id=segment.id,
        words=tuple(
            SpokenWord(start=start, end=end, start_sample=from_ms * MS, end_sample=to_ms * MS)
            for start, end, from_ms, to_ms in words
        ),
    )


def in_order(outputs: list[UtteranceOutput]) -> list[str | int]:
    """Words as they are written, audio as its length in ms; begins and ends in ms behind words."""
    found: list[str | int] = []
    for output in outputs:
        if isinstance(output, Samples):
            found.append(output.samples.size // MS)
        elif isinstance(output, WordsSpoken):
            found += [
                f"{word.text} {word.start_sample // MS}-{word.end_sample // MS}"
                for word in output.words
            ]
    return found


def test_words_of_an_engine_come_in_their_places() -> None:
    """Positions are of the whole text and of all audio; a word comes before the sound it begins in,
    or as soon as the engine knows."""
    utterance = new_utterance(word_times="exact")
    first, second = utterance.add_text("One two. Three four. ") + utterance.end()
    assert utterance.take(timed(second, (0, 5, 0, 90), (6, 11, 120, 180))) == []
    assert utterance.take(chunk(second, 0.2, 200 * MS)) == []
    outputs = utterance.take(timed(first, (0, 3, 10, 40)))
    outputs += utterance.take(chunk(first, 0.1, 50 * MS, last=False))
    outputs += utterance.take(timed(first, (4, 8, 45, 95)))
    outputs += utterance.take(chunk(first, 0.1, 50 * MS))
    assert in_order(outputs) == [
        *("One 10-40", 50, "two. 45-95", 50),
        *(30, 270),
        *("Three 400-490", "four. 520-580", 200, 30),
    ]
    spans = [(w.start, w.end) for o in outputs if isinstance(o, WordsSpoken) for w in o.words]
    assert [utterance.text[start:end] for start, end in spans] == ["One", "two.", "Three", "four."]


def test_a_word_waits_for_the_audio_that_it_begins_in() -> None:
    """Words that run ahead of the audio would be marked as said when somebody interrupts."""
    utterance = new_utterance(word_times="exact")
    (only,) = utterance.add_text("One two. ") + utterance.end()
    outputs = utterance.take(timed(only, (0, 3, 0, 40), (4, 8, 60, 95)))
    outputs += utterance.take(chunk(only, 0.1, 50 * MS, last=False))
    assert in_order(outputs) == ["One 0-40", 50]
    utterance.cancel()
    assert spoken(utterance, 39) == ""
    assert spoken(utterance, 40) == "One"
    assert spoken(utterance, 99) == "One"


def test_a_transcript_follows_the_engine_s_words() -> None:
    """Shares of characters put a long pause, or a number, at the wrong place."""
    utterance = new_utterance(word_times="exact")
    (only,) = utterance.add_text("$5 then. ") + utterance.end()
    utterance.take(timed(only, (0, 2, 0, 700), (3, 8, 800, 990)))
    utterance.take(chunk(only, 0.1, 1000 * MS))
    expected = {699: "", 700: "$5", 989: "$5", 990: "$5 then.", 1000: "$5 then."}
    assert {ms: spoken(utterance, ms) for ms in expected} == expected


def test_estimated_words_are_never_late_and_fill_the_segment() -> None:
    """While the length is not known a pace is assumed; whatever comes, all words are told."""
    for total_ms in (300, 1000, 4000):
        utterance = new_utterance()
        (only,) = utterance.add_text("One two three four. ") + utterance.end()
        outputs: list[UtteranceOutput] = []
        for part in range(10):
            outputs += utterance.take(chunk(only, 0.1, total_ms * MS // 10, last=part == 9))
        sent, told = 0, 0
        for output in outputs:
            if isinstance(output, Samples):
                sent += output.samples.size
            elif isinstance(output, WordsSpoken):
                for word in output.words:
                    assert told <= word.start_sample <= word.end_sample
                    assert sent <= word.end_sample <= total_ms * MS
                    told = word.end_sample
        words = [w.text for o in outputs if isinstance(o, WordsSpoken) for w in o.words]
        assert words == ["One", "two", "three", "four."]
        assert told == total_ms * MS


def test_what_fails_is_not_told_as_spoken() -> None:
    """The words after the failure were never heard."""
    for word_times in ("exact", "estimated"):
        utterance = new_utterance(word_times=word_times)
        (only,) = utterance.add_text("One two three four. ") + utterance.end()
        outputs = []
        if word_times == "exact":
            outputs = utterance.take(timed(only, (0, 3, 0, 250), (4, 7, 900, 990)))
        outputs += utterance.take(chunk(only, 0.1, 300 * MS, last=False))
        outputs += utterance.take(SegmentFailed(segment_id=only.id, message="broken"))
        words = [w.text for o in outputs if isinstance(o, WordsSpoken) for w in o.words]
        assert words == ["One"]
        utterance.cancel()
        assert spoken(utterance, 310) == "One"


def test_the_pace_of_a_voice_is_remembered() -> None:
    """The first segment of each context would else be told at the pace of somebody else."""
    paces = Paces()
    for _ in range(20):
        paces.note("slow", "en", "One two three.", 12_400)
    assert paces.of("slow", "en") == pytest.approx(1000, rel=0.1)
    assert paces.of("slow", "de") == paces.of("other", "en") == 0.06 * 24_000
    for number in range(300):
        paces.note(str(number), None, "a", 1)
    assert paces.of("slow", "en") == 0.06 * 24_000, "voices come and go; memory is bounded"


def test_figures_and_pauses_take_their_time() -> None:
    """By the number of characters "5, no" would begin its "no" in the middle of the figure."""
    five, no = WordEstimate("5, no.").words_until(1000, num_left=0, total=1120, pace=0.0)
    assert (five.end, five.start_sample, five.end_sample) == (2, 0, 500)
    assert (no.start_sample, no.end_sample) == (920, 1120)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("One  two—three, “four”!", ["One", "two—three,", "“four”!"]),
        ("– 😀 a – b", ["a", "b"]),
        ("你好，「朋友」。", ["你", "好，「", "朋", "友」。"]),
        ("你好 ok的", ["你", "好", "ok", "的"]),
        ("?!", []),
    ],
)
def test_what_a_word_is(text: str, words: list[str]) -> None:
    """Clients mark them in the text: marks belong to words, and what nobody says to none."""
    assert [text[start:end] for start, end in word_spans(text)] == words


# --- what was spoken ------------------------------------------------------------------------------


def spoken(utterance: Utterance, played_ms: float) -> str:
    return utterance.text[: utterance.num_chars_spoken(played_ms * MS)]


def test_spoken_text_is_cut_between_words() -> None:
    """A transcript that ends in mid-word confuses the language model that reads it."""
    utterance = new_utterance()
    first, second = utterance.add_text("One two three. Four five six. ") + utterance.end()
    utterance.take(chunk(first, 0.1, 1400 * MS))  # eleven letters and two spaces: 113 ms a letter
    utterance.take(chunk(second, 0.1, 1400 * MS))
    expected = {
        0: "",
        200: "",
        337: "",
        340: "One",
        799: "One two",
        1399: "One two",
        1400: "One two three.",
        1600: "One two three.",  # in the pause
        1701: "One two three. ",  # the next segment has begun, no word is through
        2200: "One two three. Four",
        3100: "One two three. Four five six.",
        3130: "One two three. Four five six. ",
        9999: "One two three. Four five six. ",
    }
    assert {played_ms: spoken(utterance, played_ms) for played_ms in expected} == expected


def test_a_segment_in_the_making_is_judged_by_the_pace_so_far() -> None:
    """Its length is not known yet; half of its audio must not count as all of its text."""
    utterance = new_utterance()
    first, second = utterance.add_text("One two three. Four five six. ") + utterance.end()
    utterance.take(chunk(first, 0.1, 700 * MS))  # 50 ms a character
    utterance.take(chunk(second, 0.1, 250 * MS, last=False))
    assert spoken(utterance, 1000 + 250) == "One two three. Four"


def test_scripts_without_spaces_are_cut_between_characters() -> None:
    """Chinese has no spaces: waiting for one would call everything unspoken."""
    utterance = new_utterance()
    (only,) = utterance.add_text("你好我的朋友们。") + utterance.end()
    utterance.take(chunk(only, 0.1, 800 * MS))
    assert spoken(utterance, 456) == "你好我"
    assert spoken(utterance, 459) == "你好我的"


def test_spoken_and_remaining_text_survive_the_cancel() -> None:
    """The account is asked for after the cancel."""
    utterance = new_utterance()
    (first,) = utterance.add_text("One two three. Fo")
    utterance.take(chunk(first, 0.1, 1400 * MS))
    utterance.cancel()
    assert spoken(utterance, 1400) == "One two three."
    assert utterance.text == "One two three. Fo"
