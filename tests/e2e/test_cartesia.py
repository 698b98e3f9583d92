"""Cartesia's socket over real ones: contexts side by side, word times, formats, interruptions."""

import base64
from collections.abc import Callable
from urllib.parse import quote

import numpy as np
import pytest

from tests.e2e.cartesia import LONG, ONE, TEXT, USUAL, Body, Service, service, slow
from tests.e2e.owners import ANNA, BOB, client_of, studio
from tests.e2e.wire import native_pcm, run
from tests.fakes import RecordingEngine, UnhurriedEngine

# --- speech ---------------------------------------------------------------------------------------


def test_a_context_is_spoken_whole_and_ends_with_done() -> None:
    """LiveKit takes `done` as the end: audio behind it is lost, and without it the plugin hangs."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            expected = await native_pcm(cartesia.daemon, TEXT)
            for end in ("", " "):  # Pipecat's and LiveKit's
                await client.say("a", "Hello th")
                await client.say("a", "ere. How are ")
                await client.say("a", "you today?")
                await client.say("a", end, more=False)
                heard = await client.hear("a")
                assert heard.audio == expected
                assert heard.messages[-1]["status_code"] == 200
                assert not any(message["done"] for message in heard.messages[:-1])
            await client.say("b", TEXT, more=False)
            assert (await client.hear("b")).audio == expected

    run(talk())


def test_word_times_are_of_the_text_as_it_was_sent() -> None:
    """LiveKit looks each word up in what it sent, in order; one that is not there switches its
    transcripts off. Both frameworks write what was heard into the LLM's history by them."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            await client.say("a", TEXT, more=False)
            heard = await client.hear("a")
            assert [word for word, _, _ in heard.words] == TEXT.split()
            place = 0
            for word, start_s, end_s in heard.words:
                place = TEXT.index(word, place)
                assert start_s < end_s
                # The tones: a fifteenth of a second for each character, a pause after the stop.
                expected_s = place / 15 + (0.3 - 1 / 15 if place > 12 else 0)
                assert start_s == pytest.approx(expected_s, abs=0.01)
            played_s = 0.0
            for message in heard.messages:
                if message["type"] == "chunk":
                    played_s += len(base64.b64decode(message["data"])) / 48_000
                elif message["type"] == "timestamps":
                    assert message["word_timestamps"]["start"][0] >= played_s - 0.5
            await client.say("b", TEXT, more=False, add_timestamps=None)
            assert not (await client.hear("b")).words

    run(talk())


def test_two_contexts_at_a_time_do_not_mix() -> None:
    """The next answer begins while the last one is still being sent: each must be whole."""

    async def talk() -> None:
        async with service(build=slow) as cartesia, cartesia.client() as client:
            texts = {"a": TEXT, "b": "The second one, of another length.", "c": "Three."}
            expected = {
                name: await native_pcm(cartesia.daemon, text) for name, text in texts.items()
            }
            for index in range(40):
                for name, text in texts.items():
                    if text[index : index + 1]:
                        await client.say(name, text[index])
            for name in texts:
                await client.say(name, "", more=False)
            for name, text in texts.items():
                heard = await client.hear(name)
                assert heard.audio == expected[name]
                assert [word for word, _, _ in heard.words] == text.split()

    run(talk())


def test_the_end_of_a_context_may_name_another_voice_and_format() -> None:
    """Cartesia's package ends a context with its own defaults; Pipecat, told in mid-answer to
    change the voice, with the next one's. Neither wants the speech to end in an error."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            expected = await native_pcm(cartesia.daemon, TEXT)
            others: Body = {
                "voice": "6ccbfb76-1fc6-48f7-b71d-91ac6298247b",
                "language": None,
                "output_format": {"container": "raw", "encoding": "pcm_f32le"},
            }
            for text in ("", " "):
                await client.say("a", TEXT[:20], voice="low")
                await client.say("a", TEXT[20:], voice="low")
                await client.say("a", "", flush=True, **others)
                await client.say("a", text, more=False, **others)
                heard = await client.hear("a")
                assert not heard.of("error")
                assert len(heard.audio) == len(expected)
                voices = {segment.voice for segment in cartesia.daemon.engine.diary.started}
                assert voices == {"sine", "low"}

    run(talk())


def test_another_speed_in_mid_context_comes_with_the_next_one() -> None:
    """Pipecat takes a change of generation_config at any time and stays in the context; the rest of
    the answer must not be lost for it."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            await client.say("a", TEXT, more=False)
            usual = await client.hear("a")
            for name, speed in (("b", 1.0), ("c", 2.0)):
                await client.say(name, TEXT[:20], generation_config={"speed": speed})
                changed = {"speed": 2.0, "volume": 0.5}
                await client.say(name, TEXT[20:], more=False, generation_config=changed)
            assert (await client.hear("b")).audio == usual.audio
            assert len((await client.hear("c")).audio) < len(usual.audio)

    run(talk())


@pytest.mark.parametrize(
    ("encoding", "rate", "sample_bytes"),
    [
        ("pcm_s16le", 16_000, 2),
        ("pcm_f32le", 44_100, 4),
        ("pcm_mulaw", 8_000, 1),
        ("pcm_alaw", 8_000, 1),
        ("pcm_s16le", 22_050, 2),
    ],
)
def test_audio_has_the_form_that_was_asked_for(encoding: str, rate: int, sample_bytes: int) -> None:
    """Raw audio does not say what it is: at another rate it is a chipmunk or a hiss."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            seconds = len(await native_pcm(cartesia.daemon, TEXT)) / 48_000
            sound = {"container": "raw", "encoding": encoding, "sample_rate": rate}
            await client.say("a", TEXT, more=False, output_format=sound)
            heard = await client.hear("a")
            assert len(heard.audio) / sample_bytes / rate == pytest.approx(seconds, abs=0.001)
            if encoding == "pcm_f32le":
                peak = np.abs(np.frombuffer(heard.audio, dtype="<f4")).max()
                assert 0.2 < peak < 0.3

    run(talk())


def test_without_a_buffer_each_text_is_spoken_at_once() -> None:
    """Who sends whole sentences asks for no delay: the last word must not wait for the next one."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            await client.say("a", "This goes on", max_buffer_delay_ms=0)
            first = await client.until("flush_done", "a")
            assert (first["flush_id"], first["flush_done"], first["done"]) == (1, True, False)
            assert [word for word, _, _ in client.heard["a"].words] == ["This", "goes", "on"]
            await client.say("a", " until here.", max_buffer_delay_ms=0)
            assert (await client.until("flush_done", "a"))["flush_id"] == 2
            await client.say("a", "", more=False, max_buffer_delay_ms=0)
            heard = await client.hear("a")
            assert len(heard.of("flush_done")) == 2
            chunks = {message["flush_id"] for message in heard.of("chunk")}
            assert {1, 2} <= chunks <= {1, 2, 3}

    run(talk())


def test_a_flush_speaks_what_waits_and_says_when_it_is_out() -> None:
    """All audio of a text must be out before its flush_done, whatever the rate: clients write a
    file for each."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            sound = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 8000}
            await client.say("a", "This waits", output_format=sound, max_buffer_delay_ms=5000)
            await client.expect_silence()
            await client.say("a", "", flush=True, output_format=sound)
            await client.until("flush_done", "a")
            before = len(client.heard["a"].audio)
            assert before == pytest.approx(2 * 8000 * (10 / 15 + 0.03), abs=8)
            await client.say("a", "", more=False, output_format=sound)
            assert len((await client.hear("a")).audio) == before

    run(talk())


@pytest.mark.parametrize("build", [RecordingEngine, UnhurriedEngine])
def test_speed_changes_length_and_word_times(build: Callable[[], RecordingEngine]) -> None:
    """Word times at another speed must be those of the audio that is sent, whoever made it."""

    async def talk() -> None:
        async with service(build=build) as cartesia, cartesia.client() as client:
            await client.say("a", ONE, more=False)
            usual = await client.hear("a")
            controls = {"speed": 1.5, "volume": 0.5, "emotion": "happy"}
            await client.say("b", ONE, more=False, generation_config=controls)
            fast = await client.hear("b")
            assert len(fast.audio) == pytest.approx(len(usual.audio) / 1.5, rel=0.05)
            for (word, start_s, _), (same, fast_s, _) in zip(usual.words, fast.words, strict=True):
                assert word == same
                assert fast_s == pytest.approx(start_s / 1.5, abs=0.001)
            loud, soft = (
                np.abs(np.frombuffer(item.audio, dtype="<i2").astype(float)).max()
                for item in (usual, fast)
            )
            assert soft == pytest.approx(loud / 2, rel=0.1)

    run(talk())


def test_voices_are_found_by_name_and_strangers_get_the_default() -> None:
    """Both plugins name a voice of Cartesia's unless told otherwise, and must connect all the
    same; a name that is nobody's is a mistake that somebody should hear of."""

    async def talk() -> None:
        async with service(voice_aliases=("their-deep-one=low",)) as cartesia:
            engine = cartesia.daemon.engine
            async with cartesia.client() as client:
                for voice, ours in (
                    ("low", "low"),
                    ({"mode": "id", "id": "low"}, "low"),
                    ({"id": "their-deep-one"}, "low"),
                    (USUAL["voice"], "sine"),
                    ({"mode": "embedding", "embedding": [0.1] * 192}, "sine"),
                    (None, "sine"),
                ):
                    await client.say("a", "Hi.", more=False, voice=voice)
                    await client.hear("a")
                    assert engine.diary.started[-1].voice == ours, voice
                await client.say("a", "Hi.", voice={"mode": "id", "id": "nobody"})
                heard = await client.hear("a")
                assert heard.order == ["error", "done"]
                assert "nobody" in heard.messages[0]["message"]

    run(talk())


def test_a_voice_of_somebodys_own_is_spoken_to_its_owner_alone() -> None:
    """Who had a voice made expects it behind every door; to others it must not even exist."""

    async def talk() -> None:
        async with studio() as daemon, await client_of(daemon) as anna:
            made = await anna.clone_voice(b"clip", name="me", consent=True)
            for token, order in ((ANNA, ["chunk", "done"]), (BOB, ["error", "done"])):
                async with Service(daemon).client(f"&api_key={quote(token)}") as client:
                    sound = {"voice": made.voice, "add_timestamps": False}
                    await client.say("a", "Hi.", more=False, **sound)
                    assert (await client.hear("a")).order == order
            assert [item.voice for item in daemon.engine.diary.started] == [made.voice]

    run(talk())


def test_tags_are_not_read_aloud() -> None:
    """Pipecat writes them into the text, and passes on those of a language model as its tokens
    come; `<spell>` is for what is not a word."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            text = 'It is <emotion value="happy" /><speed ratio="1.2"/><spell>A1 B2</spell>.'
            tokens = [text[place : place + 3] for place in range(0, len(text), 3)]
            for pieces in ([text], tokens):
                for piece in pieces:
                    await client.say("a", piece)
                await client.say("a", "", more=False)
                heard = await client.hear("a")
                assert [word for word, _, _ in heard.words] == ["It", "is", "A", "1", "B", "2."]
                assert cartesia.daemon.engine.diary.started[-1].text == "It is A 1 B 2."

    run(talk())


# --- interruption ---------------------------------------------------------------------------------


def test_nothing_of_a_cancelled_context_follows_and_its_neighbour_goes_on() -> None:
    """Barge-in: one answer stops at once, its slot is free, the other is not touched."""

    async def talk() -> None:
        async with service(build=slow) as cartesia:
            expected = await native_pcm(cartesia.daemon, TEXT)
            diary = cartesia.daemon.engine.diary
            async with cartesia.client() as client:
                await client.say("a", LONG)
                await client.say("b", TEXT, more=False)
                await client.until("chunk", "a")
                await client.cancel("a")
                await client.until("done", "a")
                client.heard.pop("a")
                assert (await client.hear("b")).audio == expected
                await client.expect_silence()
                assert "a" not in client.heard
                await cartesia.daemon.until(lambda: not diary.busy)
                assert 'outcome="cancelled"' in cartesia.daemon.daemon.metrics.page().decode()
                await client.say("a", TEXT, more=False)
                assert (await client.hear("a")).audio == expected

    run(talk())


def test_cancelling_or_ending_what_is_not_there_does_no_harm() -> None:
    """Clients cancel contexts that have just ended, and end those that never began: no slot may be
    taken, and no error shown for it."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            await client.cancel("ghost")
            await client.expect_silence()
            await client.say("ghost", "", more=False)
            assert (await client.hear("ghost")).order == ["done"]
            assert not cartesia.daemon.engine.diary.started
            await client.say("a", TEXT, more=False)
            await client.say("a", "", more=False)
            assert (await client.hear("a")).of("chunk")
            await client.cancel("a")
            await client.expect_silence()

    run(talk())


def test_a_client_that_goes_away_frees_its_slots() -> None:
    """LiveKit interrupts by dropping the socket; speech that goes on costs others theirs."""

    async def talk() -> None:
        async with service(build=slow) as cartesia, cartesia.client() as client:
            diary = cartesia.daemon.engine.diary
            for name in "abc":
                await client.say(name, LONG)
            await client.until("chunk", "c")
            assert len(diary.busy) >= 3
            client.connection.transport.abort()
            await cartesia.daemon.until(lambda: not diary.busy)

    run(talk())
