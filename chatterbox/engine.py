"""Segments in, PCM out, for all active slots at once: `start(slot, segment)`, then `step()`.

One step: every slot draws one speech token; windows of tokens that became ready become mel
together, and mel becomes samples. Knows slots and segments; knows neither sessions nor clocks.
Everything that a stage reads on the device lives in `T3Decoder`, `FlowStep` and `VocoderStep`;
this file is the host's side of them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from chatterbox.api import (
    EngineEvent,
    EngineInfo,
    PcmChunk,
    Segment,
    SegmentFailed,
    SegmentId,
    SegmentWarning,
    SlotIndex,
    UnspeakableText,
)
from chatterbox.config import (
    LOOKAHEAD_TOKENS,
    MEL_FRAMES_PER_TOKEN,
    SAMPLES_PER_MEL_FRAME,
    SPEECH_CODES,
    ModelConfig,
)
from chatterbox.ladder import Ladder, steps_of
from chatterbox.progress import Part, Progress, split_tokens
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.flow_step import FlowStep
from chatterbox.s3gen.noise import NoiseBuffers
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.s3gen.vocoder_step import VocoderStep
from chatterbox.s3gen.windows import FrameSchedule, FrameWindow, TokenSchedule, TokenWindow
from chatterbox.t3.alignment import AlignedT3Decoder
from chatterbox.t3.decoder import T3Decoder
from chatterbox.t3.predictor import TokenPredictor
from chatterbox.text.front_end import FrontEnd
from chatterbox.voice import Voice

_Window = TypeVar("_Window", TokenWindow, FrameWindow)


@dataclass(frozen=True, slots=True)
class PreparedVoice:
    """A voice on the device, with everything computed that does not depend on the text."""

    condition: Tensor  # [1, prefix, t3 channels]
    prompt_tokens: Tensor  # [prompt]
    prompt_mel: Tensor  # [mel_bins, 2 * prompt]
    speaker: Tensor  # [mel_bins]


class ChatterboxEngine:
    """The `SpeechEngine` of every Chatterbox checkpoint."""

    def __init__(
        self,
        config: ModelConfig,
        t3: TokenPredictor,
        flow: Flow,
        vocoder: HiFT,
        *,
        voices: dict[str, Voice],
        front_end: FrontEnd,
        num_slots: int,
        deterministic: bool = False,
        watch_alignment: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self.config = config
        self._device = device or torch.device("cpu")
        self._front_end = front_end
        noise = NoiseBuffers(config)
        # To compare with an old version of the reference; a captured step cannot watch.
        decoder = AlignedT3Decoder if watch_alignment else T3Decoder
        self._t3 = decoder(t3, num_slots, top_k=config.sampling.top_k).to(self._device)
        self._flow = FlowStep(flow, noise, config, num_slots).to(self._device)
        self._vocoder = VocoderStep(vocoder, noise, config, num_slots).to(self._device)
        self._tokens = TokenSchedule(config.flow)
        self._frames = FrameSchedule(config.vocoder)
        self._rows = Ladder(range(1, num_slots + 1), pinned=deterministic)
        self._cache_lengths = Ladder(
            steps_of(128, config.t3.max_sequence).sizes, pinned=deterministic
        )
        self._text_lengths = steps_of(32, config.t3.max_text_tokens)
        self._token_capacities = Ladder(self._tokens.capacities())
        self._frame_capacities = Ladder(self._frames.capacities(self._tokens))
        self._slots: list[Progress | None] = [None] * num_slots
        with torch.inference_mode():
            self._voices = {name: self._prepare(voice) for name, voice in voices.items()}

    @property
    def info(self) -> EngineInfo:
        config = self.config
        default = (
            config.default_voice if config.default_voice in self._voices else min(self._voices)
        )
        return EngineInfo(
            model=config.name,
            num_slots=len(self._slots),
            voices=sorted(self._voices),
            default_voice=default,
            languages=config.languages,
            options=config.options,
            max_segment_chars=config.text.max_segment_chars,
            max_segment_chars_of=config.max_segment_chars_of,
        )

    @property
    def state_bytes(self) -> int:
        """Memory of everything that the steps keep beside the weights."""
        seen = {
            id(buffer): buffer.numel() * buffer.element_size()
            for step in (self._t3, self._flow, self._vocoder)
            for buffer in step.buffers()
        }
        return sum(seen.values())

    def warm_up(self) -> None:
        """Start one sentence in every slot at once, up to the first window of the usual size, and
        drop it: kernels, front end and caches are then ready.
        """
        text = "Warming up, so that the first listener does not wait."
        slots = [SlotIndex(index) for index in range(len(self._slots))]
        for slot in slots:
            self.start(
                slot, Segment(id=SegmentId(-1 - slot), text=text, voice=self.info.default_voice)
            )
        flow = self.config.flow
        for _ in range(sum(flow.first_windows) + flow.window_tokens + LOOKAHEAD_TOKENS):
            self.step([slot for slot in slots if not self._busy(slot).finished])
        for slot in slots:
            self.release(slot)

    @torch.inference_mode()
    def start(self, slot: SlotIndex, segment: Segment) -> list[EngineEvent]:
        """See `SpeechEngine.start`."""
        assert self._slots[slot] is None, f"slot {slot} is busy"
        if segment.voice not in self._voices:
            raise UnspeakableText(
                f"no voice {segment.voice!r}; there are {', '.join(sorted(self._voices))}"
            )
        encoded = self._front_end.encode(segment.text, segment.language)
        if not encoded.tokens:
            raise UnspeakableText(
                f"nothing in {segment.text!r} can be spoken by model {self.config.name}"
            )
        longest, separator = self.config.t3.max_spoken_tokens, self._front_end.separator
        parts = deque(
            piece
            for part in encoded.parts or [encoded.tokens]
            for piece in split_tokens(part, longest, separator)
        )
        self._slots[slot] = Progress(segment, parts, self._begin(slot, segment, parts.popleft()))
        return [
            SegmentWarning(segment_id=segment.id, code=warning.code, message=warning.message)
            for warning in encoded.warnings
        ]

    @torch.inference_mode()
    def step(self, slots: Sequence[SlotIndex]) -> list[EngineEvent]:
        """See `SpeechEngine.step`."""
        stepping = [slot for slot in slots if not self._busy(slot).finished]
        events: list[EngineEvent] = []
        events += self._decode(
            [slot for slot in stepping if not self._busy(slot).part.tokens_finished]
        )
        self._solve(stepping)
        events += self._voice(stepping)
        for slot in stepping:
            events += self._advance(slot)
        return events

    def release(self, slot: SlotIndex) -> None:
        """See `SpeechEngine.release`."""
        assert self._slots[slot] is not None, f"slot {slot} is free"
        self._slots[slot] = None

    # The host's side of the stages, in the order of the data.

    def _begin(self, slot: int, segment: Segment, text_tokens: list[int]) -> Part:
        """Prefill T3 for one part and reset every stage's state of the slot."""
        config, voice = self.config, self._voices[segment.voice]
        marked = config.t3.marked(text_tokens)
        bucket = self._text_lengths.fit(len(marked))
        text = self._staged([[*marked, *[0] * (bucket - len(marked))]])
        prefix = self._t3.model.prefix_length(voice.condition.shape[1], len(marked))
        sampling = config.sampling.with_options(segment.options)
        self._t3.state.begin(slot, prefix=prefix, seed=segment.seed, sampling=sampling)
        self._t3.prefill(
            self._staged([slot]), voice.condition, text, num_text=self._staged([len(marked)])
        )
        self._flow.state.begin(
            slot,
            tokens=voice.prompt_tokens,
            mel=voice.prompt_mel,
            speaker=voice.speaker,
            seed=segment.seed,
        )
        self._vocoder.state.begin(slot, seed=segment.seed)
        cap = round(20 + config.text.max_speech_per_text_token * len(text_tokens))
        return Part(text_tokens, min(cap, config.t3.max_generated_tokens), prefix)

    def _decode(self, slots: list[SlotIndex]) -> list[EngineEvent]:
        """One speech token for each of `slots`."""
        if not slots:
            return []
        rows = self._rows.fit(max(slots) + 1)
        length = self._cache_lengths.fit(max(self._busy(slot).part.positions for slot in slots))
        chosen = set(slots)
        stepping = torch.tensor([row in chosen for row in range(rows)], device=self._device)
        tokens = self._t3.decode(stepping, length).tolist()
        events: list[EngineEvent] = []
        for slot in slots:
            progress = self._busy(slot)
            part, token = progress.part, tokens[slot]
            part.steps += 1
            part.tokens += token < SPEECH_CODES
            part.loop.push(token)
            if token == self.config.t3.stop_speech_token:
                self._close(slot, part)
            elif part.steps >= part.max_speech_tokens or part.tail:
                part.tokens = max(part.committed_tokens, part.tokens - part.tail)
                self._close(slot, part)
                events.append(_runaway(progress.segment))
        return events

    def _close(self, slot: int, part: Part) -> None:
        """No more tokens are drawn; those of silence that the flow wants to see follow."""
        part.tokens_finished = True
        if part.tokens:
            self._t3.state.close(slot, part.tokens)
            part.tokens += len(self.config.t3.closing_tokens)

    def _solve(self, slots: list[SlotIndex]) -> None:
        """Mel for every slot whose next window of tokens is ready, windows of one shape
        together.
        """
        ready: list[tuple[SlotIndex, TokenWindow]] = []
        for slot in slots:
            part = self._busy(slot).part
            window = self._tokens.next_window(
                part.committed_tokens, part.tokens, finished=part.tokens_finished
            )
            if window is not None:
                ready.append((slot, window))
                part.committed_tokens = window.committed
        prompt = self.config.flow.max_prompt_tokens
        for capacity, group in _grouped(
            ready, lambda item: self._token_capacities.fit(prompt + item[1].tokens)
        ):
            plan = self._planned([FlowStep.plan_row(slot, window) for slot, window in group])
            self._flow(plan, self._t3.state.tokens, capacity)

    def _voice(self, slots: list[SlotIndex]) -> list[EngineEvent]:
        """Samples for every slot whose committed mel reaches far enough."""
        ready: list[tuple[SlotIndex, FrameWindow]] = []
        rows: dict[SlotIndex, tuple[int, ...]] = {}
        for slot in slots:
            part = self._busy(slot).part
            finished = part.tokens_finished and part.committed_tokens == part.tokens
            committed = part.committed_tokens * MEL_FRAMES_PER_TOKEN
            window = self._frames.next_window(part.emitted_frames, committed, finished=finished)
            part.audio_finished = finished
            if window is None:
                continue
            ready.append((slot, window))
            rows[slot] = VocoderStep.plan_row(
                slot, window, known_f0=part.known_f0, finished=finished
            )
            part.known_f0 = VocoderStep.f0_known_after(committed, finished=finished)
            part.emitted_frames = window.emit_to
        events: list[EngineEvent] = []
        for capacity, group in _grouped(
            ready, lambda item: self._frame_capacities.fit(item[1].frames)
        ):
            plan = self._planned([rows[slot] for slot, _ in group])
            waves = self._vocoder(plan, self._flow.state.mel, capacity).cpu().numpy()
            for (slot, window), wave in zip(group, waves, strict=False):
                start = (window.emit_from - window.first) * SAMPLES_PER_MEL_FRAME
                end = (window.emit_to - window.first) * SAMPLES_PER_MEL_FRAME
                progress = self._busy(slot)
                samples = progress.part.trimmer.push(wave[start:end])
                if len(samples):
                    events.append(
                        PcmChunk(segment_id=progress.segment.id, samples=samples, is_last=False)
                    )
        return events

    def _advance(self, slot: SlotIndex) -> list[EngineEvent]:
        """Close a part whose audio is complete: go on with the next one, or end the segment."""
        progress = self._busy(slot)
        if not progress.part.audio_finished:
            return []
        if not progress.part.tokens:
            progress.finished = True
            message = "the model made no sound for this text; try other words or another seed"
            return [SegmentFailed(segment_id=progress.segment.id, message=message)]
        tail = progress.part.trimmer.finish()
        progress.finished = not progress.waiting
        if progress.waiting:
            progress.part = self._begin(slot, progress.segment, progress.waiting.popleft())
        return [
            PcmChunk(
                segment_id=progress.segment.id,
                samples=np.ascontiguousarray(tail),
                is_last=progress.finished,
            )
        ]

    # Small tools.

    def _prepare(self, voice: Voice) -> PreparedVoice:
        device = self._device
        return PreparedVoice(
            condition=self._t3.model.embed_condition(
                voice.t3_speaker.to(device), voice.t3_prompt.to(device)
            ),
            prompt_tokens=voice.prompt_tokens[0].to(device),
            prompt_mel=voice.prompt_mel[0].T.contiguous().to(device),
            speaker=self._flow.flow.project_speaker(voice.speaker.to(device))[0],
        )

    def _busy(self, slot: int) -> Progress:
        progress = self._slots[slot]
        assert progress is not None, f"slot {slot} is free"
        return progress

    def _planned(self, rows: list[tuple[int, ...]]) -> Tensor:
        """The plan of one call, padded with rows that do nothing up to a prepared batch size."""
        spare = self._rows.fit(len(rows)) - len(rows)
        return self._staged([*rows, *[(rows[0][0], *[0] * (len(rows[0]) - 1))] * spare])

    def _staged(self, values: object) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)


def _grouped(
    ready: list[tuple[SlotIndex, _Window]], capacity: Callable[[tuple[SlotIndex, _Window]], int]
) -> Iterable[tuple[int, list[tuple[SlotIndex, _Window]]]]:
    """Windows that share a shape, together."""
    return (
        (size, list(group)) for size, group in groupby(sorted(ready, key=capacity), key=capacity)
    )


def _runaway(segment: Segment) -> SegmentWarning:
    message = "the model did not find its end and was cut; what follows the last word is dropped"
    return SegmentWarning(segment_id=segment.id, code="runaway_cut", message=message)
