"""Segments in, PCM out, for all active slots at once: `start(slot, segment)`, then `step()`.

One step: every slot draws one speech token; windows of tokens that became ready become mel
together, and mel becomes samples. Knows slots and segments; knows neither sessions nor clocks.
Everything that lives on the device is in `stages.py`; this file is the host's side: what each slot
has, and what it gets next.

The host may run ahead of what it has read (`lag`): it then launches the draw of a token before it
knows the one before. Each slot goes through the same tokens, windows and samples in the same order
whatever the lag, so the samples are the same; a slot that has drawn its stop token meanwhile is
left alone by the device itself.
"""

import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from chatterbox.api import (
    EngineEvent,
    EngineInfo,
    EngineStats,
    Segment,
    SegmentFailed,
    SegmentId,
    SegmentWarning,
    SlotIndex,
    UnspeakableText,
    VoiceUnfit,
)
from chatterbox.config import (
    LOOKAHEAD_TOKENS,
    MEL_FRAMES_PER_TOKEN,
    SAMPLES_PER_MEL_FRAME,
    SPEECH_CODES,
    SPEED,
    ModelConfig,
)
from chatterbox.device.backend import Backend, choose_backend
from chatterbox.device.transfers import Pending, PlanRow
from chatterbox.progress import Part, Progress, split_tokens, words_between
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.s3gen.vocoder_step import VocoderStep
from chatterbox.s3gen.windows import FrameWindow, TokenWindow, frames_at
from chatterbox.stages import Call, Stages
from chatterbox.t3.predictor import TokenPredictor
from chatterbox.text.front_end import FrontEnd, TokenSpan
from chatterbox.text.reading import read
from chatterbox.timing import WordClock
from chatterbox.voice import Voice, VoiceError, load_voice

_log = logging.getLogger(__name__)

_Draw = tuple[Pending, list[tuple[SlotIndex, Part]]]
"""Tokens on their way to the host, and whose they are."""
_Sound = tuple[Pending, list[tuple[SlotIndex, Part, FrameWindow]]]
"""Samples on their way to the host, and whose they are."""


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
        token_phonemes: NDArray[np.int16] | None = None,
        can_clone: bool = False,
        deterministic: bool = False,
        watch_alignment: bool = False,
        device: torch.device | None = None,
        backend: Backend | None = None,
        lag: int | None = None,
    ) -> None:
        """`lag`: how many draws the host launches before it reads one; default 0 on the CPU, where
        waiting costs nothing, else 1. `token_phonemes` as in `phonemes_of_tokens`, for voices whose
        speech tokens have names: word times are then exact.
        """
        self.config = config
        self.token_phonemes = token_phonemes
        self._can_clone = can_clone
        self._front_end = front_end
        device = device or torch.device("cpu")
        self.stages = Stages(
            config,
            t3,
            flow,
            vocoder,
            num_slots=num_slots,
            backend=backend or choose_backend(device, eager=False),
            device=device,
            deterministic=deterministic,
            watch_alignment=watch_alignment,
        )
        self._lag = (0 if device.type == "cpu" else 1) if lag is None else lag
        self._draws: deque[_Draw] = deque()
        self._sounds: list[_Sound] = []
        self._slots: list[Progress | None] = [None] * num_slots
        with torch.inference_mode():
            self._voices = {
                name: self.stages.prepare_voice(voice) for name, voice in voices.items()
            }

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
            can_clone=self._can_clone,
            gpu=self.stages.gpu,
            tags=self._front_end.tags,
            phonemes=self._front_end.phonemes,
            word_times="estimated" if self.token_phonemes is None else "exact",
        )

    @torch.inference_mode()
    def add_voice(self, name: str, path: Path) -> None:
        """See `CloningEngine`. A prompt of a new length is prefilled uncaptured: capturing it now
        would keep everybody waiting.
        """
        try:
            voice = load_voice(path, self.config)
        except (VoiceError, OSError) as error:
            raise VoiceUnfit(str(error)) from None
        self._voices[name] = self.stages.prepare_voice(voice)

    def remove_voice(self, name: str) -> None:
        """See `CloningEngine`."""
        del self._voices[name]

    def take_stats(self) -> EngineStats:
        """See `MeasuredEngine`."""
        return self.stages.take_stats()

    @property
    def state_bytes(self) -> int:
        """Memory of everything that the steps keep beside the weights."""
        return self.stages.state_bytes

    def warm_up(self) -> None:
        """Capture every step at every size; then start one sentence in every slot at once, up to
        the first window of the usual size, and drop it: front end and caches are then ready.
        """
        self._capture()
        text = "Warming up, so that the first listener does not wait."
        slots = [SlotIndex(index) for index in range(len(self._slots))]
        for slot in slots:
            self.start(
                slot, Segment(id=SegmentId(-1 - slot), text=text, voice=self.info.default_voice)
            )
        flow = self.config.flow
        steps = sum(flow.first_windows) + flow.window_tokens + LOOKAHEAD_TOKENS + self._lag
        for _ in range(steps):
            self.step([slot for slot in slots if not self._busy(slot).finished])
        for slot in slots:
            self.release(slot)
        self.stages.forget_counts()

    @torch.inference_mode()
    def _capture(self) -> None:
        total = sum(len(stage.rungs) for stage in self.stages.captured)
        for done, (stage, rung) in enumerate(self.stages.prepare(), start=1):
            _log.info(
                "captured %s for %d rows of %d, %d of %d",
                stage.name,
                rung.rows,
                rung.size,
                done,
                total,
            )

    @torch.inference_mode()
    def start(self, slot: SlotIndex, segment: Segment) -> list[EngineEvent]:
        """See `SpeechEngine.start`."""
        assert self._slots[slot] is None, f"slot {slot} is busy"
        if segment.voice not in self._voices:
            raise UnspeakableText(
                f"no voice {segment.voice!r}; there are {', '.join(sorted(self._voices))}"
            )
        encoded = read(self._front_end, segment)
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
        first = parts.popleft()
        part = self._begin(slot, segment, first, words_between(encoded.words, 0, len(first)))
        self._slots[slot] = Progress(segment, parts, part, words=encoded.words)
        return [
            SegmentWarning(segment_id=segment.id, code=warning.code, message=warning.message)
            for warning in encoded.warnings
        ]

    @torch.inference_mode()
    def step(self, slots: Sequence[SlotIndex]) -> list[EngineEvent]:
        """See `SpeechEngine.step`."""
        stepping = [slot for slot in slots if not self._busy(slot).finished]
        self.stages.next_round()
        events = self._hear()
        drawing = self._drawing(stepping)
        if not self._lag:
            self._launch(self._draw_calls(drawing), drawing)
        self._receive(max(0, self._lag - 1) if drawing else 0)
        for slot in stepping:
            events += self._take_token(slot)
        calls, sounds = self._ready_windows(stepping)
        # What makes sound goes first: somebody may be waiting for it.
        drawing = self._drawing(stepping) if self._lag else []
        self._launch([*calls, *self._draw_calls(drawing)], drawing, sounds)
        if not self._lag:
            events += self._hear()
        for slot in stepping:
            events += self._advance(slot)
        return events

    def release(self, slot: SlotIndex) -> None:
        """See `SpeechEngine.release`."""
        assert self._slots[slot] is not None, f"slot {slot} is free"
        self._slots[slot] = None

    # The parts of a step, in the order of the data.

    def _begin(
        self, slot: int, segment: Segment, text_tokens: list[int], words: Sequence[TokenSpan]
    ) -> Part:
        """Prefill T3 for one part and reset every stage's state of the slot. `words` are those of
        the part.
        """
        config = self.config
        options = dict(segment.options)
        speed = options.pop(SPEED.name, SPEED.default)
        prefix = self.stages.begin(
            slot,
            self._voices[segment.voice],
            config.t3.marked(text_tokens),
            seed=segment.seed,
            options=config.sampling.with_options(options),
            speed=speed,
        )
        cap = round(20 + config.text.max_speech_per_text_token * len(text_tokens))
        clock = None
        if self.token_phonemes is not None:
            clock = WordClock(text_tokens, words, self.token_phonemes, speed=speed)
        longest = min(cap, config.t3.max_generated_tokens)
        return Part(text_tokens, longest, prefix, words=clock, speed=speed)

    def _drawing(self, slots: Sequence[SlotIndex]) -> list[SlotIndex]:
        return [slot for slot in slots if self._busy(slot).part.may_draw]

    def _draw_calls(self, slots: Sequence[SlotIndex]) -> list[Call]:
        """One speech token for each of `slots`."""
        if not slots:
            return []
        positions = max(self._busy(slot).part.positions for slot in slots)
        return [self.stages.decode_call(slots, positions)]

    def _launch(
        self,
        calls: Sequence[Call],
        drawing: Sequence[SlotIndex],
        sounds: Sequence[list[tuple[SlotIndex, Part, FrameWindow]]] = (),
    ) -> None:
        """Give the device its work. `sounds` are whose the samples are, call by call."""
        results = [pending for pending in self.stages.launch(calls) if pending is not None]
        if drawing:
            draws = [(slot, self._busy(slot).part) for slot in drawing]
            self._draws.append((results.pop(), draws))
            for _, part in draws:
                part.draws += 1
        self._sounds += zip(results, sounds, strict=True)

    def _receive(self, ahead: int) -> None:
        """Read draws until so many are still on their way."""
        while len(self._draws) > ahead:
            pending, draws = self._draws.popleft()
            tokens = pending.take().tolist()
            for slot, part in draws:
                part.unread.append(tokens[slot])

    def _take_token(self, slot: SlotIndex) -> list[EngineEvent]:
        """The next token of a slot, if it is known; one a step, so that what is decided about a
        token never depends on the lag.
        """
        progress = self._busy(slot)
        part = progress.part
        if part.tokens_finished or not part.unread:
            return []
        token = part.unread.popleft()
        part.steps += 1
        part.tokens += token < SPEECH_CODES
        part.loop.push(token)
        if part.words is not None:
            part.words.push(token)
        self.stages.num_tokens += 1
        if token == self.config.t3.stop_speech_token:
            self._close(slot, part)
        elif part.steps >= part.max_speech_tokens or part.tail:
            part.tokens = max(part.committed_tokens, part.tokens - part.tail)
            self._close(slot, part)
            return [_runaway(progress.segment)]
        return []

    def _close(self, slot: int, part: Part) -> None:
        """No more tokens are drawn; those of silence that the flow wants to see follow."""
        part.tokens_finished = True
        if part.tokens:
            self.stages.t3.state.close(slot, part.tokens)
            part.tokens += len(self.config.t3.closing_tokens)

    def _ready_windows(
        self, slots: Sequence[SlotIndex]
    ) -> tuple[list[Call], list[list[tuple[SlotIndex, Part, FrameWindow]]]]:
        """The calls that turn windows of tokens into mel, and mel into samples, for every slot
        that has enough; and whose the samples are.
        """
        windows: list[tuple[int, TokenWindow]] = []
        for slot in slots:
            part = self._busy(slot).part
            window = self.stages.tokens.next_window(
                part.committed_tokens, part.tokens, finished=part.tokens_finished
            )
            if window is not None:
                windows.append((slot, window))
                part.committed_tokens = window.committed
        calls = [call for call, _ in self.stages.flow_calls(windows)]
        voiced = [found for slot in slots if (found := self._next_sound(slot)) is not None]
        sounds = []
        for call, group in self.stages.vocoder_calls(voiced):
            calls.append(call)
            sounds.append(
                [(SlotIndex(slot), self._busy(slot).part, window) for slot, window, _ in group]
            )
        return calls, sounds

    def _next_sound(self, slot: SlotIndex) -> tuple[int, FrameWindow, PlanRow] | None:
        """The frames that become samples now, if the committed mel reaches far enough."""
        part = self._busy(slot).part
        finished = part.tokens_finished and part.committed_tokens == part.tokens
        committed = frames_at(part.committed_tokens * MEL_FRAMES_PER_TOKEN, speed=part.speed)
        window = self.stages.frames.next_window(
            part.emitted_frames, committed, finished=finished, most=self.stages.most_frames
        )
        # Slow speech has more frames than one window holds: the rest comes in the next step.
        is_last = finished and (window is None or window.emit_to == committed)
        part.audio_finished = is_last
        if window is None:
            return None
        row = VocoderStep.plan_row(slot, window, known_f0=part.known_f0, finished=is_last)
        end = window.first + window.frames
        part.known_f0 = VocoderStep.f0_known_after(end, finished=is_last)
        part.emitted_frames = window.emit_to
        part.unheard += 1
        if part.words is not None:
            part.words.note_launch()
        return slot, window, row

    def _hear(self) -> list[EngineEvent]:
        """Samples that were launched, as audio of their segments; of those that still speak."""
        events: list[EngineEvent] = []
        for pending, sounds in self._sounds:
            waves = pending.take().numpy()
            for (slot, part, window), wave in zip(sounds, waves, strict=True):
                progress = self._slots[slot]
                if progress is None or progress.part is not part:
                    continue
                part.unheard -= 1
                start = (window.emit_from - window.first) * SAMPLES_PER_MEL_FRAME
                end = (window.emit_to - window.first) * SAMPLES_PER_MEL_FRAME
                words, samples = part.hear(wave[start:end].copy())
                events += progress.news(words, samples, is_last=False)
        self._sounds.clear()
        return events

    def _advance(self, slot: SlotIndex) -> list[EngineEvent]:
        """Close a part whose audio is complete: go on with the next one, or end the segment."""
        progress = self._busy(slot)
        if not progress.part.audio_finished or progress.part.unheard:
            return []
        if not progress.part.tokens:
            progress.finished = True
            message = "the model made no sound for this text; try other words or another seed"
            return [SegmentFailed(segment_id=progress.segment.id, message=message)]
        words, tail = progress.part.close()
        progress.finished = not progress.waiting
        events = progress.news(words, np.ascontiguousarray(tail), is_last=progress.finished)
        if progress.waiting:
            progress.leave_part()
            following = progress.waiting.popleft()
            begin = progress.num_tokens_before
            words_left = words_between(progress.words, begin, begin + len(following))
            progress.part = self._begin(slot, progress.segment, following, words_left)
        return events

    def _busy(self, slot: int) -> Progress:
        progress = self._slots[slot]
        assert progress is not None, f"slot {slot} is free"
        return progress


def _runaway(segment: Segment) -> SegmentWarning:
    message = "the model did not find its end and was cut; what follows the last word is dropped"
    return SegmentWarning(segment_id=segment.id, code="runaway_cut", message=message)
