"""The mark on a stream: the reference's on whole files, whatever the pieces, neighbours and lag."""

import importlib.machinery
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from chatterbox.api import (
    SAMPLE_RATE,
    EngineEvent,
    EngineInfo,
    PcmChunk,
    Segment,
    SegmentFailed,
    SegmentId,
    SegmentWarning,
    SlotIndex,
)
from chatterbox.device.backend import Backend
from chatterbox.device.transfers import Pending
from chatterbox.perth.__main__ import main
from chatterbox.perth.blocks import BLOCK_HOPS, Block
from chatterbox.perth.detector import Detector, load_detector
from chatterbox.perth.embedder import CONTEXT, Embedder, load_embedder
from chatterbox.perth.spectrum import HOP
from chatterbox.perth.weights import WatermarkUnavailable, find_weights
from chatterbox.watermark import Watermarked
from tests.model.device_guard import OneDevice, ints
from tests.model.random_engine import random_engine
from tests.model.recorded import RecordedGraphs

Samples = NDArray[np.float32]
GOLDEN = load_file(str(Path(__file__).parents[1] / "golden" / "watermark.safetensors"))
SPEECH: Samples = (GOLDEN["samples"] / 32768).astype(np.float32)
LONGEST_DELAY = CONTEXT + BLOCK_HOPS * HOP


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return load_embedder()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector()


class Recital:
    """An engine that recites the samples of its segments, each in pieces of its own; a piece a
    step. The text of a segment is its place in the programme.
    """

    def __init__(self, programme: Sequence[tuple[Samples, int]], *, fails: bool = False) -> None:
        self._programme = programme
        self._fails = fails
        self._playing: dict[SlotIndex, tuple[Segment, list[Samples]]] = {}

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            model="recital",
            num_slots=3,
            voices=("one",),
            default_voice="one",
            languages=("en",),
            options=(),
            max_segment_chars=100,
        )

    def warm_up(self) -> None:
        """Nothing is lazy here."""

    def start(self, slot: SlotIndex, segment: Segment) -> list[EngineEvent]:
        samples, piece = self._programme[int(segment.text)]
        cuts = range(piece, samples.size, piece)
        self._playing[slot] = (segment, np.split(samples, cuts))
        return [SegmentWarning(segment_id=segment.id, code="hello", message="it begins")]

    def step(self, slots: Sequence[SlotIndex]) -> list[EngineEvent]:
        events: list[EngineEvent] = []
        for slot in slots:
            segment, pieces = self._playing[slot]
            assert pieces, f"slot {slot} has finished and waits for release"
            samples = pieces.pop(0)
            is_last = not pieces
            events.append(
                PcmChunk(
                    segment_id=segment.id,
                    samples=samples,
                    is_last=is_last and not self._fails,
                )
            )
            if is_last and self._fails:
                events.append(SegmentFailed(segment_id=segment.id, message="no breath"))
        return events

    def release(self, slot: SlotIndex) -> None:
        del self._playing[slot]


def segment(place: int, *, number: int | None = None, watermark: bool = True) -> Segment:
    return Segment(
        id=SegmentId(place if number is None else number),
        text=str(place),
        voice="one",
        watermark=watermark,
    )


def marked(
    programme: Sequence[tuple[Samples, int]],
    embedder: Embedder,
    *,
    lag: int = 0,
    backend: Backend | None = None,
    device: torch.device | None = None,
    deterministic: bool = False,
    unmarked: Sequence[int] = (),
) -> list[Samples]:
    """All of a programme, spoken at the same time."""
    engine = Watermarked(
        Recital(programme),
        embedder=embedder,
        lag=lag,
        backend=backend,
        device=device,
        deterministic=deterministic,
    )
    engine.warm_up()
    speaking = {SlotIndex(place): SegmentId(place) for place in range(len(programme))}
    heard: dict[SegmentId, list[Samples]] = {place: [] for place in speaking.values()}
    for slot, place in speaking.items():
        engine.start(slot, segment(place, watermark=place not in unmarked))
    while speaking:
        for event in engine.step(list(speaking)):
            assert isinstance(event, PcmChunk)
            heard[event.segment_id].append(event.samples)
            if event.is_last:
                slot = SlotIndex(event.segment_id)
                engine.release(slot)
                del speaking[slot]
    return [np.concatenate(heard[SegmentId(place)]) for place in range(len(programme))]


def low(samples: Samples) -> Samples:
    """What lies below 4 kHz: the mark does, and the reference's resampling does not reach it."""
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(samples.size, 1 / SAMPLE_RATE) > 4000] = 0
    return np.fft.irfft(spectrum, samples.size).astype(np.float32)


def test_stream_agrees_with_the_reference_on_the_whole_file(embedder: Embedder) -> None:
    """A wrong window, scale, padding or context would still sound fine and no longer be found."""
    (ours,) = marked([(SPEECH, 960)], embedder)
    theirs = GOLDEN["marked"]
    added = low(theirs - SPEECH[: theirs.size])
    difference = low(ours[: theirs.size] - theirs)
    interior = slice(HOP, theirs.size - 2 * HOP)
    assert np.std(added[interior]) > 0.005
    assert np.std(difference[interior]) < 1e-3 * np.std(added[interior])


def test_what_lies_above_the_mark_is_left_alone(embedder: Embedder) -> None:
    """Consonants must not pass through anything."""
    (ours,) = marked([(SPEECH, 960)], embedder)
    added = ours - SPEECH
    level = np.abs(np.fft.rfft(added * np.hanning(added.size)))
    frequency = np.fft.rfftfreq(added.size, 1 / SAMPLE_RATE)
    assert np.square(level[frequency > 2500]).sum() < 1e-4 * np.square(level).sum()


def test_detector_agrees_with_the_reference(detector: Detector) -> None:
    """Unmarked, marked, half of it marked: our figures must be those of everybody's detector."""
    theirs = GOLDEN["marked"]
    half = np.concatenate([theirs[: SPEECH.size // 2], SPEECH[SPEECH.size // 2 : theirs.size]])
    ours = [detector.likelihood(samples) for samples in (SPEECH, theirs, half)]
    assert np.abs(np.array(ours) - GOLDEN["likelihood"]).max() < 0.01


def test_detector_says_when_there_is_too_little(detector: Detector) -> None:
    """A mirror image of less than half a window cannot be made; torch says so in its own words."""
    with pytest.raises(ValueError, match="too few"):
        detector.likelihood(SPEECH[:700])


@pytest.mark.parametrize("piece", [1 + LONGEST_DELAY, 7, 120, 4801])
def test_the_pieces_do_not_matter(embedder: Embedder, piece: int) -> None:
    """Blocks that followed the pieces would make samples depend on how the text came."""
    clip = SPEECH[: 2000 if piece == 7 else 30_000]
    (whole,) = marked([(clip, clip.size)], embedder, deterministic=True)
    (pieced,) = marked([(clip, piece)], embedder, deterministic=True)
    assert whole.size == clip.size
    assert np.array_equal(whole, pieced)
    (unpinned,) = marked([(clip, piece)], embedder)
    assert np.abs(whole - unpinned).max() < 1e-6


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("backend", [None, RecordedGraphs()], ids=["calls", "graphs"])
def test_neighbours_lag_and_graphs_do_not_matter(
    embedder: Embedder, lag: int, backend: Backend | None
) -> None:
    """Rows that saw each other, or results read too early, would mix up listeners."""
    programme = [(SPEECH[:20_000], 3840), (SPEECH[5_000:], 9600), (SPEECH[:9_000], 640)]
    together = marked(
        programme, embedder, lag=lag, backend=backend, deterministic=True, unmarked=[1]
    )
    assert np.array_equal(together[1], programme[1][0])
    for place in (0, 2):
        (alone,) = marked([programme[place]], embedder, deterministic=True)
        assert np.abs(together[place] - alone).max() < 1e-6
        assert np.abs(together[place] - programme[place][0]).max() > 1e-3


def test_pinned_batches_give_the_same_bits(embedder: Embedder) -> None:
    """`--deterministic` promises it under any load."""
    programme = [(SPEECH[:20_000], 3840), (SPEECH[5_000:], 9600)]
    together = marked(programme, embedder, deterministic=True)
    (alone,) = marked(programme[:1], embedder, deterministic=True)
    assert np.array_equal(together[0], alone)


def test_delay_is_bounded(embedder: Embedder) -> None:
    """212 ms and a block: more would add to everybody's first audio."""
    engine = Watermarked(Recital([(np.tile(SPEECH, 2), 480)]), embedder=embedder)
    engine.start(SlotIndex(0), segment(0))
    given = made = 0
    firsts = []
    while made < SPEECH.size:
        made += 480
        for event in engine.step([SlotIndex(0)]):
            assert isinstance(event, PcmChunk)
            given += event.samples.size
            firsts.append(made)
        assert made - given < LONGEST_DELAY + 480
    assert firsts[0] < CONTEXT + 4 * HOP + 480


@pytest.mark.parametrize("size", [1, 2, 239, 700, 769, 5000])
def test_short_segments_come_out_whole(embedder: Embedder, size: int) -> None:
    """Shorter than a window, or than its own mirror image."""
    (ours,) = marked([(SPEECH[3000 : 3000 + size], 100)], embedder)
    assert ours.size == size
    assert np.isfinite(ours).all()


def test_a_silent_segment_stays_silent_and_an_empty_one_ends(embedder: Embedder) -> None:
    """Digital silence has no level that the network was trained on."""
    silence, empty = marked(
        [(np.zeros(9000, np.float32), 960), (np.zeros(0, np.float32), 960)], embedder
    )
    assert not silence.any()
    assert silence.size == 9000
    assert empty.size == 0


def test_segments_begin_and_end_at_the_level_they_had(embedder: Embedder) -> None:
    """Segments join at level zero; a mark that began at once would click."""
    faded = SPEECH[:12_000] * np.hanning(12_000).astype(np.float32)
    (ours,) = marked([(faded, 960)], embedder)
    assert ours[0] == faded[0]
    assert ours[-1] == faded[-1]


def test_loud_speech_stays_within_full_scale(embedder: Embedder) -> None:
    """`PcmChunk` promises [-1, 1]; what is added could go beyond."""
    loud = SPEECH / np.abs(SPEECH).max()
    (ours,) = marked([(loud, 960)], embedder)
    assert np.abs(ours).max() <= 1


@pytest.mark.parametrize("lag", [0, 1])
def test_a_failing_segment_tells_its_marked_samples_first(embedder: Embedder, lag: int) -> None:
    """What had been made before a failure was heard without the mark; it must be with it too."""
    engine = Watermarked(Recital([(SPEECH[:12_000], 4000)], fails=True), embedder=embedder, lag=lag)
    assert isinstance(engine.start(SlotIndex(0), segment(0))[0], SegmentWarning)
    events: list[EngineEvent] = []
    while not events or not isinstance(events[-1], SegmentFailed):
        events += engine.step([SlotIndex(0)])
    samples = [event.samples for event in events[:-1] if isinstance(event, PcmChunk)]
    assert sum(part.size for part in samples) == 12_000
    assert not any(event.is_last for event in events if isinstance(event, PcmChunk))


@pytest.mark.parametrize("lag", [0, 1])
def test_a_released_segment_is_heard_no_more(embedder: Embedder, lag: int) -> None:
    """A cancelled segment's marks may be on their way; its slot is somebody else's now."""
    programme = [(SPEECH, 9600), (SPEECH[9_000:], 9600)]
    engine = Watermarked(Recital(programme), embedder=embedder, lag=lag)
    slot = SlotIndex(0)
    engine.start(slot, segment(0))
    engine.step([slot])
    engine.step([slot])
    engine.release(slot)
    engine.start(slot, segment(1))
    heard = []
    for _ in itertools.repeat(None, 20):
        events = engine.step([slot])
        assert all(event.segment_id == 1 for event in events)
        heard += [event for event in events if isinstance(event, PcmChunk)]
        if heard and heard[-1].is_last:
            break
    (fresh,) = marked(programme[1:], embedder, lag=lag)
    assert np.array_equal(np.concatenate([event.samples for event in heard]), fresh)


def test_a_crowd_takes_turns(embedder: Embedder) -> None:
    """One step marks a bounded number of blocks, the first of everybody's before the second of
    anybody's.
    """
    long = np.tile(SPEECH, 8)
    engine = Watermarked(Recital([(long, long.size)] * 3), embedder=embedder)
    slots = [SlotIndex(0), SlotIndex(1), SlotIndex(2)]
    for slot in slots:
        engine.start(slot, segment(0, number=int(slot)))
    events = engine.step(slots)
    assert {event.segment_id for event in events} == {0, 1, 2}
    sizes = [event.samples.size for event in events if isinstance(event, PcmChunk)]
    assert sum(sizes) == engine.stage.blocks_per_round * 4 * HOP


def test_who_rests_takes_no_turn(embedder: Embedder) -> None:
    """A listener with a stock must not take rounds from one who waits for sound; what is left of
    its speech comes when it steps again.
    """
    long = np.tile(SPEECH, 2)
    programme = [(long, long.size), (long, 480)]
    engine = Watermarked(Recital(programme), embedder=embedder, deterministic=True)
    resting, waiting = SlotIndex(0), SlotIndex(1)
    for slot in (resting, waiting):
        engine.start(slot, segment(int(slot)))
    heard = engine.step([resting, waiting])
    for _ in range(20):
        events = engine.step([waiting])
        assert {event.segment_id for event in events} <= {1}
    while not any(isinstance(event, PcmChunk) and event.is_last for event in heard):
        heard += engine.step([resting])
    samples = [event.samples for event in heard if isinstance(event, PcmChunk)]
    (alone,) = marked(programme[:1], embedder, deterministic=True)
    assert np.array_equal(np.concatenate(samples), alone)


def test_a_failing_mark_loses_nothing_of_those_who_rest(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that was taken and never came back kept its segment, and its slot, for ever."""
    long = np.tile(SPEECH, 2)
    programme = [(long, long.size)] * 2
    engine = Watermarked(Recital(programme), embedder=embedder, deterministic=True)
    resting, failing = SlotIndex(0), SlotIndex(1)
    for slot in (resting, failing):
        engine.start(slot, segment(int(slot)))
    heard = [event for event in engine.step([resting, failing]) if event.segment_id == 0]

    def fails(_blocks: Sequence[Block]) -> list[tuple[Pending, list[int]]]:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as broken:
        broken.setattr(engine.stage, "launch", fails)
        with pytest.raises(RuntimeError):
            engine.step([failing])
    engine.release(failing)
    for _ in range(100):
        heard += engine.step([resting])
        if isinstance(heard[-1], PcmChunk) and heard[-1].is_last:
            break
    samples = [event.samples for event in heard if isinstance(event, PcmChunk)]
    (alone,) = marked(programme[:1], embedder, deterministic=True)
    assert np.array_equal(np.concatenate(samples), alone)


def test_embedder_stays_on_its_device(embedder: Embedder) -> None:
    """A tensor born on the CPU would keep the step from being captured."""
    step = Embedder().to("meta")
    windows = torch.zeros(2, 2 * CONTEXT + 4 * HOP, device="meta")
    with OneDevice():
        assert step(windows, ints(2, 2)).shape == (2, 4 * HOP)


def test_without_the_package_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ModuleNotFoundError would name a package, not the command that installs it."""
    monkeypatch.setattr("chatterbox.perth.weights.find_spec", lambda _name: None)
    with pytest.raises(WatermarkUnavailable, match="make watermark"):
        find_weights()


def test_another_file_is_not_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The weights are a pickle: only the one that was looked at is read."""
    path = tmp_path / "perth_net" / "pretrained" / "implicit" / "perth_net_250000.pth.tar"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x80\x04.")
    spec = importlib.machinery.ModuleSpec("perth", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr("chatterbox.perth.weights.find_spec", lambda _name: spec)
    with pytest.raises(WatermarkUnavailable, match="not the file"):
        load_embedder()


def test_the_command_tells_marked_files_from_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another rate, two channels, several pieces; and a file that is no sound is named."""
    marked_path, plain_path = tmp_path / "marked.wav", tmp_path / "plain.flac"
    soundfile.write(marked_path, np.stack([np.tile(GOLDEN["marked"], 7)] * 2, axis=1), SAMPLE_RATE)
    soundfile.write(plain_path, soxr.resample(SPEECH, SAMPLE_RATE, 48_000), 48_000)
    monkeypatch.setattr("sys.argv", ["perth", str(marked_path), str(plain_path)])
    assert main() == 0
    first, second = capsys.readouterr().out.splitlines()
    assert float(first.split()[0]) > 0.9
    assert "(2 of 2 pieces)" in first
    assert float(second.split()[0]) < 0.1
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "short.wav", SPEECH[:100], SAMPLE_RATE)
    soundfile.write(tmp_path / "empty.wav", SPEECH[:0], SAMPLE_RATE)
    soundfile.write(tmp_path / "nan.wav", SPEECH * np.float32(np.nan), SAMPLE_RATE, subtype="FLOAT")
    unfit = ["text.wav", "short.wav", "empty.wav", "nan.wav", "missing.wav"]
    paths = [*(str(tmp_path / name) for name in unfit), str(marked_path)]
    monkeypatch.setattr("sys.argv", ["perth", *paths])
    assert main() == 1
    told = capsys.readouterr()
    for name, line in zip(unfit, told.err.splitlines(), strict=True):
        assert name in line
    assert told.out.strip().endswith("marked.wav"), "what follows a bad file is judged"


def test_a_failing_step_loses_nothing_of_those_who_rest(embedder: Embedder) -> None:
    """Marks on their way belong to a segment that did not take part in the step that failed."""
    programme = [(SPEECH[:9_000], 9_000), (SPEECH, 480)]
    recital = Recital(programme)
    engine = Watermarked(recital, embedder=embedder, lag=1)
    for slot in (SlotIndex(0), SlotIndex(1)):
        engine.start(slot, segment(int(slot)))
    assert not engine.step([SlotIndex(0), SlotIndex(1)])
    recital.release(SlotIndex(1))
    with pytest.raises(KeyError):
        engine.step([SlotIndex(1)])
    events = engine.step([SlotIndex(0)])
    assert sum(event.samples.size for event in events if isinstance(event, PcmChunk)) == 9_000


def test_the_page_of_metrics_learns_of_the_stage(embedder: Embedder) -> None:
    """What marking costs must be seen where every other stage is seen."""
    inner = random_engine(num_slots=1)
    engine = Watermarked(inner, embedder=embedder)
    engine.start(SlotIndex(0), Segment(id=SegmentId(1), text="a" * 40, voice="one", watermark=True))
    is_over = False
    while not is_over:
        events = engine.step([SlotIndex(0)])
        is_over = any(isinstance(event, PcmChunk) and event.is_last for event in events)
    stats = engine.take_stats()
    assert stats is not None
    (stage,) = [item for item in stats.stages if item.name == "watermark"]
    assert stage.eager_runs == len(stage.seconds) > 0
    assert Watermarked(Recital([]), embedder=embedder).take_stats() is None
