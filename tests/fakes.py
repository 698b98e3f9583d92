"""Doubles that several tests share: a clock that is set by hand, engines that record or break."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from chatterbox.api import (
    EngineEvent,
    EngineInfo,
    Segment,
    SlotIndex,
    UnspeakableText,
    VoiceUnfit,
)
from chatterbox.sine import SAMPLES_PER_CHAR, SineEngine


@dataclass(slots=True)
class FakeClock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, duration_s: float) -> None:
        self.now_s += duration_s


@dataclass(slots=True)
class EngineDiary:
    """What happened to an engine. Written on its thread, read by a test."""

    started: list[Segment] = field(default_factory=list)
    busy: set[SlotIndex] = field(default_factory=set)
    num_released: int = 0
    num_steps: int = 0
    num_samples: int = 0
    most_busy: int = 0


class RecordingEngine(SineEngine):
    """A sine engine that keeps a diary."""

    def __init__(
        self,
        *,
        num_slots: int = 8,
        samples_per_step: int = 4800,
        cost_s: float = 0.0,
        samples_per_char: int = SAMPLES_PER_CHAR,
    ):
        super().__init__(
            num_slots=num_slots,
            samples_per_step=samples_per_step,
            cost_s=cost_s,
            samples_per_char=samples_per_char,
        )
        self.diary = EngineDiary()

    def start(self, slot: SlotIndex, segment: Segment) -> list[EngineEvent]:
        events = super().start(slot, segment)
        self.diary.started.append(segment)
        self.diary.busy.add(slot)
        self.diary.most_busy = max(self.diary.most_busy, len(self.diary.busy))
        return events

    def step(self, slots: Sequence[SlotIndex]) -> list[EngineEvent]:
        self.diary.num_steps += 1
        events = super().step(slots)
        self.diary.num_samples += sum(getattr(item, "samples", ()).__len__() for item in events)
        return events

    def release(self, slot: SlotIndex) -> None:
        super().release(slot)
        self.diary.busy.remove(slot)
        self.diary.num_released += 1


class CloningSineEngine(RecordingEngine):
    """Takes over voices, whatever their files hold but the word UNFIT; every voice is a tone."""

    def __init__(self, *, num_slots: int = 8, samples_per_step: int = 4800, cost_s: float = 0.0):
        super().__init__(num_slots=num_slots, samples_per_step=samples_per_step, cost_s=cost_s)
        self.added: dict[str, bytes] = {}

    @property
    def info(self) -> EngineInfo:
        return replace(super().info, can_clone=True)

    def add_voice(self, name: str, path: Path) -> None:
        content = path.read_bytes()
        if b"UNFIT" in content:
            raise VoiceUnfit(f"{path.name} holds no voice")
        self.added[name] = content

    def remove_voice(self, name: str) -> None:
        spoken = [segment.voice for segment in self.diary.started]
        assert name not in spoken or not self.diary.busy, "somebody may be speaking with it"
        del self.added[name]

    def start(self, slot: SlotIndex, segment: Segment) -> list[EngineEvent]:
        if segment.voice not in (*self.info.voices, *self.added):
            raise UnspeakableText(f"no voice {segment.voice!r}")
        return super().start(slot, segment)


class UnhurriedEngine(RecordingEngine):
    """Has no options: only an encoder can change its speed."""

    @property
    def info(self) -> EngineInfo:
        return replace(super().info, options=())


class HeldEngine(RecordingEngine):
    """Makes a little, and no more until it is let go: what happens meanwhile needs no clock."""

    def __init__(self, *, num_steps: int):
        super().__init__(samples_per_step=2400)
        self._num_steps = num_steps
        self.go = threading.Event()

    def step(self, slots: Sequence[SlotIndex]) -> list[EngineEvent]:
        if self.diary.num_steps >= self._num_steps:
            self.go.wait(timeout=20)  # a test that failed must end
        return super().step(slots)


class FragileEngine(RecordingEngine):
    """Refuses to start a segment that says FAIL, and breaks as a whole at one that says BREAK."""

    def start(self, slot: SlotIndex, segment: Segment) -> list[EngineEvent]:
        if "FAIL" in segment.text:
            raise RuntimeError("this segment is cursed")
        return super().start(slot, segment)

    def step(self, slots: Sequence[SlotIndex]) -> list[EngineEvent]:
        if any("BREAK" in segment.text for segment in self.diary.started):
            raise RuntimeError("CUDA error: the device is gone")
        return super().step(slots)


class UnbuildableError(OSError):
    """What `unbuildable` raises."""


def unbuildable() -> SineEngine:
    """A builder whose checkpoint is missing."""
    raise UnbuildableError("no checkpoint here")
