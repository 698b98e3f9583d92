"""Tags that ask for a pause: found in any split of the text, exactly as long, never spoken."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatterbox.api import PcmChunk, Segment, SegmentFailed, SegmentId
from daemon.speaking.markup import Break, Markup
from daemon.speaking.outputs import (
    FlushReached,
    Samples,
    SegmentTrouble,
    UtteranceEnded,
    UtteranceOutput,
)
from daemon.speaking.segmenter import Segmenter
from daemon.speaking.utterance import SpeechSettings, Utterance

MS = 24
"""Samples in a millisecond."""
PIECES = [
    "<break ",
    "time=",
    '"500ms"',
    "/>",
    "<",
    ">",
    "</break>",
    "a",
    " ",
    ". ",
    "<BREAK/>",
    "<br",
]


def read(deltas: list[str]) -> list[str | Break]:
    """Everything in the text, texts that touch each other joined."""
    markup = Markup()
    found = [item for delta in deltas for item in markup.push(delta)] + markup.finish()
    joined: list[str | Break] = []
    for item in found:
        if joined and isinstance(item, str) and isinstance(joined[-1], str):
            joined[-1] += item
        else:
            joined.append(item)
    return joined


@pytest.mark.parametrize(
    ("tag", "duration_ms"),
    [
        ('<break time="500ms"/>', 500),
        ("<break time='1.5s' />", 1500),
        ('<Break\n Time = "+.25S">', 250),
        ('<break time="0ms"/>', 0),
        ("<break/>", 400),
        ("<break>", 400),
        ('<break strength="none"/>', 0),
        ('<break strength="X-Strong"/>', 1200),
        ('<break strength="weak" time="2s"/>', 2000),
        ('<break id="3" time="10ms"/>', 10),
        ("</break>", 0),
        ('<break time="500"/>', None),
        ('<break time="-1s"/>', None),
        ('<break time="soon"/>', None),
        ('<break time="1e9s"/>', None),
        ('<break strength="huge"/>', None),
        ('<break id="3"/>', None),
        ("<break time=500ms/>", None),
        ("<break / >", None),
    ],
)
def test_what_a_tag_asks_for(tag: str, duration_ms: int | None) -> None:
    """Each spelling that docs/text.md lists, and those that must not become a guess."""
    assert read([f"a{tag}b"]) == ["a", Break(len(tag), duration_ms, tag), "b"]


@pytest.mark.parametrize(
    "text",
    [
        "1 < 2",
        "<breakfast>",
        "a <b>bold</b> <br/>",
        "< break/>",
        "<break" + "x",
        "<brea",
        "<",
        "<<<",
        "<break " + "x" * 200 + ">",
    ],
)
def test_what_is_no_tag_stays_in_the_text(text: str) -> None:
    """A text about numbers, HTML or breakfast loses nothing."""
    assert read([text]) == [text]
    assert read(list(text)) == [text]


def test_half_a_tag_is_never_spoken() -> None:
    """A model that ran out of tokens in the middle of one."""
    assert read(['Yes. <break time="1']) == ["Yes. ", Break(14, None, '<break time="1')]
    assert read(["a <break <break/>"]) == [
        "a ",
        Break(7, None, "<break "),
        Break(8, 400, "<break/>"),
    ]


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(st.sampled_from(PIECES), max_size=14), cuts=st.lists(st.integers(0, 90)))
def test_the_split_into_deltas_does_not_matter(parts: list[str], cuts: list[int]) -> None:
    """Guards against a tag that is lost, spoken or doubled because a delta ended inside it."""
    text = "".join(parts)
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    deltas = [text[start:end] for start, end in itertools.pairwise(places)]
    whole = read([text])
    assert read(deltas) == whole
    assert "".join(item if isinstance(item, str) else item.tag for item in whole) == text


def test_only_what_may_be_a_tag_is_held_back() -> None:
    """Guards against speech that waits because of a sign for "less than"."""
    markup = Markup()
    assert markup.push("It is 1 < 2 ") == ["It is 1 < 2 "]
    assert markup.push("so <brea") == ["so "]
    assert markup.push("d") == ["<bread"]


# --- in an utterance ------------------------------------------------------------------------------


def new_utterance(*, max_break_ms: int = 10_000) -> Utterance:
    ids = itertools.count(1)
    return Utterance(
        settings=SpeechSettings(voice="v", seed=0, options={}),
        segmenter=Segmenter(max_chars=200),
        next_segment_id=lambda: SegmentId(next(ids)),
        max_text_chars=100_000,
        max_break_ms=max_break_ms,
    )


def spoken(segment: Segment) -> PcmChunk:
    """Ten milliseconds a character."""
    samples = np.ones(len(segment.text) * 10 * MS, dtype=np.float32)
    return PcmChunk(segment_id=segment.id, samples=samples, is_last=True)


def runs_ms(outputs: list[UtteranceOutput]) -> list[tuple[str, int]]:
    """Speech and silence, one after the other."""
    pieces = [output.samples for output in outputs if isinstance(output, Samples)]
    flat = np.concatenate(pieces).tolist() if pieces else []
    return [
        ("speech" if value else "silence", len(list(run)) // MS)
        for value, run in itertools.groupby(flat)
    ]


def say(utterance: Utterance, deltas: list[str]) -> list[UtteranceOutput]:
    segments = [segment for delta in deltas for segment in utterance.add_text(delta)]
    segments += utterance.end()
    outputs = utterance.advance()
    for segment in segments:
        outputs += utterance.take(spoken(segment))
    assert isinstance(outputs[-1], UtteranceEnded)
    return outputs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('One.<break time="1s"/>Two.', [("speech", 40), ("silence", 1000), ("speech", 40)]),
        ('One. <break time="700ms"/>', [("speech", 40)]),
        ('One<break time="0ms"/> two', [("speech", 30), ("silence", 30), ("speech", 30)]),
        ('One. <break time="50ms"/> Two.', [("speech", 40), ("silence", 50), ("speech", 40)]),
        (
            'A<break time="20ms"/><break time="20ms"/>b',
            [("speech", 10), ("silence", 40), ("speech", 10)],
        ),
        ('<break time="90ms"/>One.', [("silence", 90), ("speech", 40)]),
        ('One. <break time="soon"/> Two.', [("speech", 40), ("silence", 300), ("speech", 40)]),
    ],
)
def test_a_break_is_the_whole_pause(text: str, expected: list[tuple[str, int]]) -> None:
    """As long as it says, whatever stands around it; what is not understood changes no pause."""
    last_silence_ms = 700 if text.endswith(">") else 30
    runs = runs_ms(say(new_utterance(), [text]))
    assert runs == [*expected, ("silence", last_silence_ms)]
    assert runs_ms(say(new_utterance(), list(text))) == runs


def test_positions_are_those_of_the_text_as_written() -> None:
    """Segments and words after a tag would otherwise be marked in the wrong place of the page."""
    text = 'One two. <break time="1s"/> Three [clear throat] four.'
    utterance = new_utterance()
    segments = utterance.add_text(text) + utterance.end()
    assert [segment.text for segment in segments] == ["One two.", "Three [clear throat] four."]
    outputs = [output for segment in segments for output in utterance.take(spoken(segment))]
    ended = outputs[-1]
    assert isinstance(ended, UtteranceEnded)
    assert (ended.num_chars, ended.num_segments) == (len(text), 2)
    for output in outputs:
        for word in getattr(output, "words", ()):
            assert text[word.start : word.end] == word.text


def test_a_pause_that_was_heard_counts_as_spoken() -> None:
    """What an assistant remembers to have said: the pause too, but not one that was cut short."""
    text = '<break time="100ms"/>One. <break time="1s"/> Two.'
    utterance = new_utterance()
    for segment in utterance.add_text(text) + utterance.end():
        utterance.take(spoken(segment))
    first_tag, one = text.index("One"), text.index(" <break")
    second_tag = text.index(" Two")
    for played_ms, num_chars in [(99, 0), (100, first_tag), (140, one), (1139, one)]:
        assert utterance.num_chars_spoken(played_ms * MS) == num_chars
    assert utterance.num_chars_spoken(1140 * MS) == second_tag
    assert utterance.num_chars_spoken(1150 * MS) == text.index("Two")
    assert utterance.num_chars_spoken(9999 * MS) == len(text)


def test_flushes_and_pauses_are_reached_in_the_order_of_the_text() -> None:
    """`flushed` tells how much audio came before it: it must know where the pause is."""
    utterance = new_utterance()
    segments = utterance.add_text("One.")
    segments += utterance.flush()
    outputs = [output for segment in segments for output in utterance.take(spoken(segment))]
    utterance.add_text('<break time="1s"/>')
    outputs += utterance.advance()
    utterance.flush()
    outputs += utterance.advance()
    reached = [output.sample // MS for output in outputs if isinstance(output, FlushReached)]
    assert reached == [40 + 30, 40 + 1000]


def test_the_pause_follows_a_segment_that_failed() -> None:
    """Its words are lost, the rest of the text keeps its times."""
    utterance = new_utterance()
    first, second = utterance.add_text('One.<break time="1s"/>Two.') + utterance.end()
    outputs = utterance.take(SegmentFailed(segment_id=first.id, message="no"))
    outputs += utterance.take(spoken(second))
    assert runs_ms(outputs) == [("silence", 1000), ("speech", 40), ("silence", 30)]


def test_silence_in_one_place_is_bounded() -> None:
    """A hundred tags, or one that asks for an hour, must not fill the memory."""
    utterance = new_utterance(max_break_ms=500)
    outputs = say(utterance, ["One." + '<break time="9999s"/>' * 100 + "Two."])
    assert runs_ms(outputs)[1] == ("silence", 500)
    assert max(item.samples.size for item in outputs if isinstance(item, Samples)) <= 200 * MS
    troubles = [output for output in outputs if isinstance(output, SegmentTrouble)]
    assert [(item.code, item.index) for item in troubles] == [("break_shortened", None)]


def test_unspeakable_text_does_not_lengthen_a_pause() -> None:
    """Guards the bound: dots between the tags are no speech."""
    utterance = new_utterance(max_break_ms=500)
    text = 'One.<break time="1s"/>' + '...<break time="1s"/>' * 20
    segments = utterance.add_text(text) + utterance.end()
    outputs: list[UtteranceOutput] = []
    for segment in segments:
        is_said = any(char.isalnum() for char in segment.text)
        nothing = PcmChunk(segment_id=segment.id, samples=np.zeros(0, np.float32), is_last=True)
        outputs += utterance.take(spoken(segment) if is_said else nothing)
    assert runs_ms(outputs) == [("speech", 40), ("silence", 500)]


def test_words_that_the_model_cannot_say_do_not_lengthen_a_pause() -> None:
    """Only the engine knows that a script is none of its own. Six hours of silence, made in a
    moment, are what 50,000 characters could ask for otherwise.
    """
    utterance = new_utterance(max_break_ms=500)
    segments = (
        utterance.add_text("One. " + '東<break time="400ms"/>' * 20 + "Two.") + utterance.end()
    )
    outputs: list[UtteranceOutput] = []
    for segment in segments:
        nothing = PcmChunk(segment_id=segment.id, samples=np.zeros(0, np.float32), is_last=True)
        outputs += utterance.take(nothing if segment.text == "東" else spoken(segment))
    assert runs_ms(outputs) == [
        ("speech", 40),
        ("silence", 500),
        ("speech", 40),
        ("silence", 30),
    ]


def test_complaints_about_a_text_come_to_an_end() -> None:
    """Ten thousand wrong tags are one mistake, not ten thousand messages."""
    outputs = say(new_utterance(), ["One " + "<break time=x> two " * 1000])
    troubles = [output for output in outputs if isinstance(output, SegmentTrouble)]
    assert {item.code for item in troubles} == {"bad_break"}
    assert len(troubles) == 10
