"""Captured steps and the host that runs ahead of them: the same samples as plain calls, one by one.

The graphs are recorded ones (`recorded.py`); tests/gpu repeats this with real ones.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chatterbox.api import PcmChunk, SegmentFailed, SegmentWarning, SlotIndex, WordsTimed
from chatterbox.config import ModelConfig
from chatterbox.device.backend import Backend, EagerHost, HostMark
from chatterbox.device.captured_stage import CapturedStage, MovedMemory
from chatterbox.device.transfers import PlanRow, Readback, Staging
from chatterbox.engine import ChatterboxEngine
from chatterbox.ladder import Ladder
from tests.gpu.rungs import largest_difference
from tests.gpu.steps import stage_calls
from tests.model.random_engine import (
    CONFIG,
    LLAMA,
    Letters,
    letters_of_tokens,
    random_modules,
    random_voice,
    segment,
    speak,
)
from tests.model.recorded import FewSizes, RecordedGraphs

CPU = torch.device("cpu")
TEXTS = ("one window after the other", "short", "a longer text that outlives the others by far")
BOTH = pytest.mark.parametrize("config", [CONFIG, LLAMA], ids=["gpt2", "llama"])
Heard = dict[int, list[object]]


def crowded_engine(
    config: ModelConfig,
    *,
    backend: Backend | None = None,
    lag: int = 0,
    stop_bias: float | None = None,
    deterministic: bool = False,
    device: torch.device = CPU,
) -> ChatterboxEngine:
    """Three slots, two voices."""
    t3, flow, vocoder = random_modules(config)
    if stop_bias is not None and t3.speech_head.bias is not None:
        t3.speech_head.bias.requires_grad_(False)[config.t3.stop_speech_token] = stop_bias
    return ChatterboxEngine(
        config,
        t3,
        flow,
        vocoder,
        voices={"one": random_voice(config), "two": random_voice(config, seed=3)},
        front_end=Letters(),
        num_slots=3,
        token_phonemes=letters_of_tokens(),
        deterministic=deterministic,
        backend=backend,
        lag=lag,
        device=device,
    )


def speak_crowd(engine: ChatterboxEngine, *, rests: Sequence[int] = ()) -> Heard:
    """Six segments over three slots, started as slots become free, one cancelled on its way; those
    in slots of `rests` step every second time. Segment → its events.
    """
    waiting = [
        segment(index, TEXTS[index % 3], seed=index, voice="two" if index % 2 else "one")
        for index in range(6)
    ]
    speaking: dict[int, SlotIndex] = {}
    heard: Heard = {}
    turn = 0
    while waiting or speaking:
        for slot in range(3):
            if waiting and SlotIndex(slot) not in speaking.values():
                wanted = waiting.pop(0)
                engine.start(SlotIndex(slot), wanted)
                speaking[wanted.id] = SlotIndex(slot)
                heard[wanted.id] = []
        turn += 1
        slots = [slot for slot in speaking.values() if slot not in rests or turn % 2]
        for event in engine.step(sorted(slots)):
            over = isinstance(event, SegmentFailed)
            if isinstance(event, PcmChunk):
                heard[event.segment_id].append(event.samples)
                over = event.is_last
            elif isinstance(event, SegmentWarning):
                heard[event.segment_id].append(event.code)
            elif isinstance(event, WordsTimed):
                heard[event.segment_id].append(event)
            if over:
                engine.release(speaking.pop(event.segment_id))
        if turn == 20 and 3 in speaking:
            engine.release(speaking.pop(3))
            del heard[3]
    heard.pop(3, None)
    return heard


def joined(heard: list[object]) -> NDArray[np.float32]:
    return np.concatenate(
        [np.zeros(0, np.float32), *(x for x in heard if isinstance(x, np.ndarray))]
    )


def _assert_same(first: Heard, second: Heard) -> None:
    assert first.keys() == second.keys()
    for key in first:
        assert np.array_equal(joined(first[key]), joined(second[key])), f"segment {key}"
        codes = [[x for x in heard[key] if isinstance(x, str)] for heard in (first, second)]
        assert codes[0] == codes[1]
        words = [
            [w for x in heard[key] if isinstance(x, WordsTimed) for w in x.words]
            for heard in (first, second)
        ]
        assert words[0] == words[1]
        assert len(words[0]) == len(TEXTS[key % 3].split())
    assert sum(len(joined(events)) for events in first.values()) > 24_000


@BOTH
def test_captured_is_eager(config: ModelConfig) -> None:
    """A Python value or a rebound tensor inside a step would be frozen by a capture: another
    slot's, or the last segment's, sound. Slots are reused, and batches shrink and grow.
    """
    captured = crowded_engine(config, backend=RecordedGraphs())
    captured.warm_up()
    _assert_same(speak_crowd(crowded_engine(config, backend=FewSizes())), speak_crowd(captured))
    for stage in captured.stages.captured:
        assert stage.eager_runs == 0, stage.name
        assert sum(stage.replays.values()) > 3
    decode = captured.stages.captured[-3]
    assert len({rung.rows for rung in decode.replays}) > 1


@BOTH
def test_every_rung_is_eager(config: ModelConfig) -> None:
    """A size that seldom occurs is as wrong as any if its capture froze something."""
    captured = crowded_engine(config, backend=RecordedGraphs())
    captured.warm_up()
    worst, count = largest_difference(captured)
    assert worst == 0.0
    assert count == sum(len(stage.rungs) for stage in captured.stages.captured) > 15


@BOTH
@pytest.mark.parametrize("lag", [1, 2, 4])
def test_running_ahead_changes_nothing(config: ModelConfig, lag: int) -> None:
    """Tokens that the device draws after a stop, a cut or a cancellation must not be heard, and
    every decision must fall at the same token, however late the host learns of it.
    """
    plain, ahead = (
        crowded_engine(config, lag=depth, deterministic=True, stop_bias=8.0) for depth in (0, lag)
    )
    _assert_same(speak_crowd(plain, rests=[1]), speak_crowd(ahead, rests=[1]))


@pytest.mark.parametrize("lag", [1, 2])
def test_running_ahead_of_captured_steps(lag: int) -> None:
    """Both together, as on a GPU."""
    captured = crowded_engine(
        CONFIG, backend=RecordedGraphs(), lag=lag, deterministic=True, stop_bias=8.0
    )
    captured.warm_up()
    eager = crowded_engine(CONFIG, backend=FewSizes(), deterministic=True, stop_bias=8.0)
    _assert_same(speak_crowd(eager), speak_crowd(captured))


def test_lag_costs_so_many_steps() -> None:
    """Every step of the lag is a step later for the first audio: no more than that."""
    first = []
    for lag in (0, 1, 2):
        engine = crowded_engine(CONFIG, lag=lag)
        engine.start(SlotIndex(0), segment(0, TEXTS[2]))
        steps = 1
        while not any(isinstance(event, PcmChunk) for event in engine.step([SlotIndex(0)])):
            steps += 1
        first.append(steps)
    # At a lag of one, tokens and samples are each read a step later than they are launched.
    assert first == [11, 13, 14]


def test_a_slot_that_has_stopped_is_left_alone() -> None:
    """The host launches draws for it until it has read the stop."""
    engine = crowded_engine(CONFIG)
    engine.start(SlotIndex(0), segment(0, TEXTS[0]))
    engine.step([SlotIndex(0)])
    state = engine.stages.t3.state
    state.done[0] = True
    before = {name: buffer.clone() for name, buffer in engine.stages.t3.named_buffers()}
    with torch.inference_mode():
        engine.stages.t3.decode(torch.tensor([True]), 128)
    scratch = {"cache.keys", "cache.values", "state.tokens"}
    for name, buffer in engine.stages.t3.named_buffers():
        kept, now = before[name], buffer
        if name in scratch:
            axis = -2 if name.startswith("cache") else -1
            last = kept.shape[axis] - 1
            kept, now = (tensor.narrow(axis, 0, last) for tensor in (kept, now))
        assert torch.equal(kept, now), name


def test_moved_memory_is_noticed() -> None:
    """A buffer that is rebound instead of written would leave replays with the old one."""
    engine = crowded_engine(CONFIG, backend=RecordedGraphs())
    engine.warm_up()
    speak(engine, 0, segment(0, "one"))
    state = engine.stages.flow.state
    state.mel = state.mel.clone()
    with pytest.raises(MovedMemory, match="flow: mel was rebound"):
        speak(engine, 0, segment(1, "two"))


class _Counting(nn.Module):
    """A stage with a fault of each kind that a capture punishes."""

    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1, dtype=torch.int64))
        self.calls = 0

    def host_number(self, plan: Tensor, size: int) -> Tensor:
        self.calls += 1
        return plan[:, 0] + self.calls

    def rebound(self, plan: Tensor, size: int) -> Tensor:
        self.total = self.total + plan[:1, 0]
        return self.total

    def in_place(self, plan: Tensor, size: int) -> Tensor:
        return self.total.add_(plan[:1, 0])


def _stage(module: _Counting, function: str, backend: Backend) -> CapturedStage:
    return CapturedStage(
        "counting",
        getattr(module, function),
        rows=Ladder([1, 2]),
        sizes=Ladder([7]),
        width=1,
        out=(1, torch.int64),
        backend=backend,
        device=CPU,
        state=module,
    )


@pytest.mark.parametrize(("function", "is_sound"), [("in_place", True), ("host_number", False)])
def test_the_double_catches_what_a_graph_would(function: str, is_sound: bool) -> None:
    """A double that lets these pass would prove nothing."""
    results = []
    for backend in (EagerHost(), RecordedGraphs()):
        stage = _stage(_Counting(), function, backend)
        list(stage.prepare())
        first = int(stage.run(torch.tensor([[1]]), 7)[0])  # type: ignore[index]
        second = int(stage.run(torch.tensor([[1]]), 7)[0])  # type: ignore[index]
        results.append(second - first)
    assert (results[0] == results[1]) == is_sound


def test_a_rebound_buffer_is_caught() -> None:
    """The capture itself rebinds here: the graph's memory is not the module's any more."""
    module = _Counting()
    stage = _stage(module, "rebound", RecordedGraphs())
    list(stage.prepare())
    stage.run(torch.tensor([[1]]), 7)
    module.total = module.total.clone()
    with pytest.raises(MovedMemory):
        stage.run(torch.tensor([[1]]), 7)


def test_stage_refuses_what_was_not_prepared() -> None:
    """A silent run at another size would be an eager fallback that nobody sees."""
    stage = _stage(_Counting(), "in_place", EagerHost())
    for plan, size in (
        (torch.zeros(3, 1, dtype=torch.int64), 7),
        (torch.zeros(1, 2, dtype=torch.int64), 7),
        (torch.zeros(1, 1), 7),
        (torch.zeros(1, 1, dtype=torch.int64), 8),
    ):
        with pytest.raises(ValueError, match="counting"):
            stage.run(plan, size)


def test_outputs_stay_where_they_are() -> None:
    """The host copies from fixed memory; a new tensor a step would be an allocation a step."""
    stage = _stage(_Counting(), "in_place", EagerHost())
    addresses = {stage.run(torch.tensor([[1]]), 7).data_ptr() for _ in range(3)}  # type: ignore[union-attr]
    assert len(addresses) == 1


class _SlowCopies(EagerHost):
    """Copies that are over when the test says so."""

    def __init__(self) -> None:
        self.waited = 0

    def mark(self) -> HostMark:
        outer = self

        class Slow(HostMark):
            def wait(self) -> None:
                outer.waited += 1

        return Slow()


def test_staging_waits_before_it_writes_again() -> None:
    """The GPU reads pinned memory later than the host writes it, and must not read the next."""
    backend = _SlowCopies()
    staging = Staging(8, backend=backend, device=CPU, depth=2)
    for number in range(5):
        one, other = staging.send([[(number, 1)], [(2,), (3,)]])
        assert one.tolist() == [[number, 1]]
        assert other.tolist() == [[2], [3]]
    assert backend.waited == 3
    with pytest.raises(ValueError, match="9 integers, staging holds 8"):
        staging.send([[(0,) * 9]])


def test_readback_keeps_rounds_apart() -> None:
    """What a step has launched must survive the launches of the next one."""
    readback = Readback(4, torch.int64, backend=EagerHost(), depth=2)
    source = torch.tensor([1, 2])
    first = [readback.fetch(source), readback.fetch(source + 10)]
    readback.next_round()
    source.fill_(0)
    readback.fetch(source)
    assert [pending.take().tolist() for pending in first] == [[1, 2], [11, 12]]


def test_one_copy_brings_a_steps_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each copy costs the host more than the integers it carries."""
    engine = crowded_engine(CONFIG, lag=1)
    for slot in range(3):
        engine.start(SlotIndex(slot), segment(slot, TEXTS[2], seed=slot))
    sent: list[int] = []
    send = engine.stages._staging.send

    def counted(plans: Sequence[Sequence[PlanRow]]) -> list[Tensor]:
        sent.append(len(plans))
        return send(plans)

    monkeypatch.setattr(engine.stages._staging, "send", counted)
    for _ in range(30):
        engine.step([SlotIndex(slot) for slot in range(3)])
    assert len(sent) == 30
    assert max(sent) >= 3


def test_a_longer_prompt_has_a_prefill_of_its_own() -> None:
    """Voices differ in the length of their prompt, and each length is a shape."""
    short = random_voice(CONFIG, seed=4)
    short = replace(short, t3_prompt=short.t3_prompt[:, :3])
    engine = ChatterboxEngine(
        CONFIG,
        *random_modules(CONFIG),
        voices={"one": random_voice(CONFIG), "short": short},
        front_end=Letters(),
        num_slots=2,
        backend=RecordedGraphs(),
    )
    engine.warm_up()
    assert [stage.name for stage in engine.stages.captured].count("t3_prefill") == 2
    for number, voice in enumerate(("short", "one", "short")):
        assert len(speak(engine, 0, segment(number, "hello there", voice=voice))) > 0


@BOTH
@pytest.mark.parametrize("stage", ["t3_decode", "flow", "vocoder"])
def test_a_compiler_traces_each_stage_whole(config: ModelConfig, stage: str) -> None:
    """Where torch.compile must break a graph, a step depends on a value of the host."""
    engine = crowded_engine(config, backend=FewSizes())
    call = stage_calls(engine, rows=2)[stage]
    torch.compiler.reset()
    compiled = torch.compile(call, backend="eager", fullgraph=True)
    with torch.inference_mode():
        compiled()


def test_stats_are_what_was_done_since() -> None:
    """The page of metrics adds these up: nothing may count twice, or not at all."""
    engine = crowded_engine(CONFIG, backend=RecordedGraphs())
    engine.warm_up()
    assert all(not stage.replays for stage in engine.take_stats().stages)
    engine.start(SlotIndex(0), segment(0, TEXTS[2]))
    for _ in range(12):
        engine.step([SlotIndex(0)])
    stats = engine.take_stats()
    stages = {stage.name: stage for stage in stats.stages}
    assert stats.speech_tokens == 12
    assert (stats.device_bytes, engine.info.gpu) == (0, None)
    assert {name: sum(stage.replays.values()) for name, stage in stages.items()} == {
        "t3_prefill": 1,
        "t3_decode": 12,
        "flow": 1,
        "vocoder": 1,
    }
    for stage in stats.stages:
        assert len(stage.seconds) == sum(stage.replays.values())
        assert min(stage.seconds) > 0
        assert stage.eager_runs == 0
    assert engine.take_stats().speech_tokens == 0
    plain = crowded_engine(CONFIG)
    speak(plain, 0, segment(0, "one"))
    assert all(stage.eager_runs > 0 and not stage.replays for stage in plain.take_stats().stages)
