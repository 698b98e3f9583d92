"""Texts in; speech of the real engine out, with what only its inside knows: the tokens, the mel,
where windows join, and the same tokens rendered in one call.

The only place that looks into a `ChatterboxEngine`; it changes nothing there.
"""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chatterbox.api import PcmChunk, Segment, SegmentId, SegmentWarning, SlotIndex
from chatterbox.config import MEL_FRAMES_PER_TOKEN, SAMPLES_PER_MEL_FRAME
from chatterbox.engine import ChatterboxEngine
from chatterbox.loading import load_engine
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.flow_step import FlowStep
from chatterbox.s3gen.vocoder_step import VocoderStep
from chatterbox.s3gen.windows import TokenSchedule, TokenWindow
from chatterbox.silence import SilenceTrimmer
from chatterbox.training.recogniser import Samples

SLOT = SlotIndex(0)


@dataclass(frozen=True, slots=True)
class Rendition:
    """One text, window by window."""

    text: str
    seed: int
    tokens: Tensor  # [1, num_tokens]
    mel: NDArray[np.float32]  # [frames, 80]
    samples: Samples
    """Silence at the ends included."""
    mel_joins: tuple[int, ...]
    """First sample of the first new frame of each window of tokens but the first."""
    sample_joins: tuple[int, ...]
    """First sample of each window of samples but the first."""
    warnings: tuple[str, ...]


class _Keeper(SilenceTrimmer):
    """Trims as ever, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Samples] = []

    def push(self, samples: Samples) -> Samples:
        self.given.append(samples.copy())
        return super().push(samples)


class WatchedEngine:
    """A `Speaker`. `last` is what it spoke last."""

    def __init__(self, model: str | None, options: dict[str, float]) -> None:
        self.engine: ChatterboxEngine = load_engine(model, num_slots=1, threads=1)
        self.engine.warm_up()
        self.last: Rendition | None = None
        self._options = options

    def __call__(self, text: str, seed: int) -> Samples:
        engine = self.engine
        voice = engine.info.default_voice
        segment = Segment(
            id=SegmentId(seed), text=text, voice=voice, seed=seed, options=self._options
        )
        events = engine.start(SLOT, segment)
        progress = engine._busy(SLOT)
        keeper = progress.part.trimmer = _Keeper()
        while not progress.finished:
            events += engine.step([SLOT])
        spoken = [event.samples for event in events if isinstance(event, PcmChunk)]
        count = progress.part.tokens
        frames = count * MEL_FRAMES_PER_TOKEN
        lengths = [len(part) for part in keeper.given]
        schedule = TokenSchedule(engine.config.flow)
        self.last = Rendition(
            text=text,
            seed=seed,
            tokens=engine.stages.t3.state.tokens[SLOT : SLOT + 1, :count].clone(),
            mel=engine.stages.flow.state.mel[SLOT, :frames].cpu().numpy().copy(),
            samples=np.concatenate([np.zeros(0, np.float32), *keeper.given]),
            mel_joins=tuple(
                token * MEL_FRAMES_PER_TOKEN * SAMPLES_PER_MEL_FRAME
                for token in range(1, count)
                if schedule.window_of(token) != schedule.window_of(token - 1)
            ),
            sample_joins=tuple(accumulate(lengths))[:-1],
            warnings=tuple(event.code for event in events if isinstance(event, SegmentWarning)),
        )
        engine.release(SLOT)
        return np.concatenate([np.zeros(0, np.float32), *spoken])


class WholeRendering:
    """Tokens → mel and samples in one call, with the noise that the engine's windows meet."""

    def __init__(self, engine: ChatterboxEngine) -> None:
        config = engine.config
        longest = config.t3.max_speech_tokens
        flow = Flow(config.flow, config.flow.max_prompt_tokens + longest)
        flow.load_state_dict(engine.stages.flow.flow.state_dict())
        noise = engine.stages.flow.noise
        self._flow = FlowStep(flow.eval(), noise, config, 1).to(engine.stages.device)
        self._flow.new_frames = longest * MEL_FRAMES_PER_TOKEN
        self._vocoder = VocoderStep(engine.stages.vocoder.vocoder, noise, config, 1).to(
            engine.stages.device
        )
        self._voice = engine._voices[engine.info.default_voice]
        self._prompt = config.flow.max_prompt_tokens

    @torch.inference_mode()
    def mel(self, tokens: Tensor, *, seed: int) -> NDArray[np.float32]:
        """[frames, 80] of tokens [1, num_tokens]."""
        voice, count = self._voice, tokens.shape[1]
        state = self._flow.state
        state.begin(
            SLOT,
            tokens=voice.prompt_tokens,
            mel=voice.prompt_mel,
            speaker=voice.speaker,
            seed=seed,
        )
        window = TokenWindow(first=0, context=0, new=count, lookahead=0)
        plan = torch.tensor([FlowStep.plan_row(SLOT, window)], device=tokens.device)
        self._flow(plan, tokens, self._prompt + count)
        mel: NDArray[np.float32] = state.mel[SLOT, : count * MEL_FRAMES_PER_TOKEN].cpu().numpy()
        return mel.copy()

    @torch.inference_mode()
    def samples(self, tokens: Tensor, *, seed: int) -> tuple[Samples, NDArray[np.float32]]:
        """The waveform of the mel that `mel` makes, and that mel."""
        mel = self.mel(tokens, seed=seed)
        frames = len(mel)
        self._vocoder.state.begin(SLOT, seed=seed)
        plan = torch.tensor([(SLOT, 0, frames, 0, frames)], device=tokens.device)
        wave: Samples = self._vocoder(plan, self._flow.state.mel, frames)[0].cpu().numpy()
        return wave, mel
