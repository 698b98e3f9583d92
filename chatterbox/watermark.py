"""An engine in; the same engine out, which marks the audio of segments that ask for it.

A marked segment is the same speech, sample for sample in the same place, with a mark added; its
samples leave 212 ms of audio and up to one block later than they are made, because the mark depends
on what follows. Everything else passes as it is. Runs on the engine's thread.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from chatterbox.api import (
    SAMPLE_RATE,
    CloningEngine,
    EngineEvent,
    EngineInfo,
    EngineStats,
    MeasuredEngine,
    PcmChunk,
    Segment,
    SegmentFailed,
    SegmentId,
    SlotIndex,
    SpeechEngine,
)
from chatterbox.device.backend import Backend, choose_backend
from chatterbox.device.transfers import Pending
from chatterbox.perth.blocks import Block, BlockStream, Samples
from chatterbox.perth.embedder import Embedder, load_embedder
from chatterbox.perth.stage import MarkStage
from chatterbox.perth.weights import find_weights

_NOTHING: Samples = np.zeros(0, dtype=np.float32)
_FEWEST_BLOCKS_PER_STEP = 4
"""One window of 24 tokens fills as many: a slot alone never falls behind."""


@dataclass(slots=True)
class _Marked:
    """One segment that is being marked."""

    slot: SlotIndex
    id: SegmentId
    stream: BlockStream = field(default_factory=BlockStream)
    end: EngineEvent | None = None
    """What the engine said last of it: told when everything before it has been."""


class Watermarked:
    """A `SpeechEngine` around another one."""

    def __init__(
        self,
        engine: SpeechEngine,
        *,
        embedder: Embedder | None = None,
        device: torch.device | None = None,
        backend: Backend | None = None,
        deterministic: bool = False,
        lag: int | None = None,
    ) -> None:
        """`embedder`: the installed one, unless given. `lag`: 1 collects marks a step after they
        were launched, so that the host need not wait; default 0 on the CPU, else 1.
        """
        self._engine = engine
        device = device or torch.device("cpu")
        self._lag = (0 if device.type == "cpu" else 1) if lag is None else lag
        self.stage = MarkStage(
            embedder or load_embedder(),
            blocks_per_round=max(_FEWEST_BLOCKS_PER_STEP, engine.info.num_slots),
            device=device,
            backend=backend or choose_backend(device, eager=False),
            deterministic=deterministic,
        )
        self._marked: dict[SegmentId, _Marked] = {}
        self._launched: list[tuple[Pending, list[_Marked]]] = []

    @property
    def info(self) -> EngineInfo:
        return replace(self._engine.info, can_mark=True)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """See `SpeechEngine.warm_up`."""
        self._engine.warm_up()
        for _rung in self.stage.prepare():
            pass
        stream = BlockStream()
        stream.push(np.zeros(2 * SAMPLE_RATE, dtype=np.float32))
        stream.finish()
        for block in iter(stream.take_block, None):
            for pending, _ in self.stage.launch([block]):
                stream.join(pending.take()[0].numpy())
        self.stage.forget_counts()

    def start(self, slot: SlotIndex, segment: Segment) -> list[EngineEvent]:
        """See `SpeechEngine.start`."""
        events = self._engine.start(slot, segment)
        if segment.watermark:
            self._marked[segment.id] = _Marked(slot, segment.id)
        return events

    @torch.inference_mode()
    def step(self, slots: Sequence[SlotIndex]) -> list[EngineEvent]:
        """See `SpeechEngine.step`. A slot may be stepped here whose engine has said everything:
        then only marks are waited for.
        """
        ended = {item.slot for item in self._marked.values() if item.end is not None}
        speaking = [slot for slot in slots if slot not in ended]
        # First, because it may fail: what was launched before is then collected by the next step.
        told = self._engine.step(speaking) if speaking else []
        events = self._collect()
        for event in told:
            events += self._hear(event)
        self._launch(slots)
        if not self._lag or not speaking:
            events += self._collect()
        return events

    def release(self, slot: SlotIndex) -> None:
        """See `SpeechEngine.release`."""
        self._engine.release(slot)
        for item in [item for item in self._marked.values() if item.slot == slot]:
            del self._marked[item.id]

    def add_voice(self, name: str, path: Path) -> None:
        """See `CloningEngine`."""
        assert isinstance(self._engine, CloningEngine), "its info says that it can clone"
        self._engine.add_voice(name, path)

    def remove_voice(self, name: str) -> None:
        """See `CloningEngine`."""
        assert isinstance(self._engine, CloningEngine), "it has added the voice"
        self._engine.remove_voice(name)

    def take_stats(self) -> EngineStats | None:
        """See `MeasuredEngine`; None if the engine does not count."""
        stats = self._engine.take_stats() if isinstance(self._engine, MeasuredEngine) else None
        if stats is None:
            return None
        return replace(stats, stages=[*stats.stages, self.stage.take_stats()])

    def _hear(self, event: EngineEvent) -> list[EngineEvent]:
        """What may be told at once."""
        item = self._marked.get(event.segment_id)
        if item is None:
            return [event]
        if isinstance(event, PcmChunk):
            item.stream.push(event.samples)
        is_end = isinstance(event, SegmentFailed) or (isinstance(event, PcmChunk) and event.is_last)
        if is_end:
            item.stream.finish()
            item.end = event
            return _told(item, _NOTHING) if item.stream.is_done else []
        return [] if isinstance(event, PcmChunk) else [event]

    def _launch(self, slots: Sequence[SlotIndex]) -> None:
        """The next blocks, of each segment in turn, so that a long one does not hold up others. Who
        rests has no turn: the step is for those who need sound, and its failure costs them alone.
        """
        turns = deque(item for item in self._marked.values() if item.slot in slots)
        taken: list[tuple[_Marked, Block]] = []
        while turns and len(taken) < self.stage.blocks_per_round:
            item = turns.popleft()
            block = item.stream.take_block()
            if block is not None:
                taken.append((item, block))
                turns.append(item)
        if taken:
            launched = self.stage.launch([block for _, block in taken])
            self._launched += [
                (pending, [taken[place][0] for place in places]) for pending, places in launched
            ]

    def _collect(self) -> list[EngineEvent]:
        """What has been launched, as audio of its segments; of those that are still wanted."""
        launched, self._launched = self._launched, []
        pieces: dict[SegmentId, list[Samples]] = {}
        for pending, items in launched:
            for item, added in zip(items, pending.take().numpy(), strict=True):
                if self._marked.get(item.id) is item:
                    pieces.setdefault(item.id, []).append(item.stream.join(added))
        events: list[EngineEvent] = []
        for segment_id, joined in pieces.items():
            events += _told(self._marked[segment_id], np.concatenate(joined))
        return events


def _told(item: _Marked, samples: Samples) -> list[EngineEvent]:
    """The next marked samples of a segment and, after the last ones, its end."""
    end = item.end if item.stream.is_done else None
    if isinstance(end, PcmChunk):
        return [PcmChunk(segment_id=item.id, samples=samples, is_last=True)]
    events: list[EngineEvent] = []
    if samples.size:
        events.append(PcmChunk(segment_id=item.id, samples=samples, is_last=False))
    return events if end is None else [*events, end]


def require_watermark() -> Path:
    """Where the weights are. Raises `WatermarkUnavailable`, which says what to do."""
    return find_weights()


def load_watermark(
    engine: SpeechEngine, *, threads: int, deterministic: bool, eager: bool
) -> Watermarked:
    """`engine`, able to mark; the rest as in `load_engine`. Raises `WatermarkUnavailable`."""
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Watermarked(
        engine,
        device=device,
        backend=choose_backend(device, eager=eager),
        deterministic=deterministic,
    )
