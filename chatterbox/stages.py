"""T3, flow and vocoder of every slot on one device: plans of rows in, results on their way to the
host out.

The device's side of the engine. Which slot does what is decided in `engine.py`.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import torch
from torch import Tensor

from chatterbox.api import EngineStats, StageStats
from chatterbox.config import SAMPLES_PER_MEL_FRAME, ModelConfig, SamplingConfig
from chatterbox.device.backend import Backend, Mark
from chatterbox.device.captured_stage import CapturedStage, Rung
from chatterbox.device.transfers import Pending, PlanRow, Readback, Staging
from chatterbox.ladder import Ladder, batches_of, steps_of, thinned
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.flow_step import FlowStep
from chatterbox.s3gen.noise import NoiseBuffers
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.s3gen.vocoder_step import VocoderStep
from chatterbox.s3gen.windows import FrameSchedule, FrameWindow, TokenSchedule, TokenWindow
from chatterbox.t3.alignment import AlignedT3Decoder
from chatterbox.t3.decoder import T3Decoder
from chatterbox.t3.predictor import TokenPredictor
from chatterbox.voice import Voice

WIDEST_WINDOW_BATCH = 32
"""Windows of one call of the flow or the vocoder on a GPU, which is full with fewer already."""
ASKS_PER_MEMORY_LOOK = 256
"""torch gathers all its statistics to answer this one; the answer seldom changes."""
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class PreparedVoice:
    """A voice on the device, with everything computed that does not depend on the text."""

    condition: Tensor  # [1, prefix, t3 channels]
    prompt_tokens: Tensor  # [prompt]
    prompt_mel: Tensor  # [mel_bins, 2 * prompt]
    speaker: Tensor  # [mel_bins]


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a stage: rows of integers, padded to a rung; the first `count` rows count."""

    stage: CapturedStage
    rows: list[PlanRow]
    size: int
    count: int
    readback: Readback | None = None


class Stages:
    """Everything of an engine that lives on the device."""

    def __init__(
        self,
        config: ModelConfig,
        t3: TokenPredictor,
        flow: Flow,
        vocoder: HiFT,
        *,
        num_slots: int,
        backend: Backend,
        device: torch.device,
        deterministic: bool = False,
        watch_alignment: bool = False,
    ) -> None:
        self.config = config
        self.device = device
        self.backend = backend
        self.num_tokens = 0
        self._asks = self._device_bytes = 0
        self.times: deque[tuple[str, Mark, Mark]] = deque(maxlen=4096)
        noise = NoiseBuffers(config)
        # To compare with an old version of the reference; a captured step cannot watch.
        decoder = AlignedT3Decoder if watch_alignment else T3Decoder
        self.t3 = decoder(t3, num_slots, top_k=config.sampling.top_k).to(device)
        self.flow = FlowStep(flow, noise, config, num_slots).to(device)
        self.vocoder = VocoderStep(vocoder, noise, config, num_slots).to(device)
        self.tokens = TokenSchedule(config.flow)
        self.frames = FrameSchedule(config.vocoder)
        self._make_ladders(num_slots, deterministic=deterministic)
        self._conditions: dict[int, Tensor] = {}
        self._prefills: dict[int, CapturedStage] = {}
        self._decode, self._solve, self._voice = self._build_stages()
        widest = max(num_slots * 4, self._rows.sizes[-1] + 10 * self._spread(num_slots))
        prefill = 2 + self._text_lengths.sizes[-1]
        self._staging = Staging(max(widest, prefill), backend=backend, device=device)
        samples = SAMPLES_PER_MEL_FRAME * self._frame_capacities.sizes[-1]
        self._samples = Readback(num_slots * samples, torch.float32, backend=backend, depth=3)
        self._tokens = Readback(num_slots, torch.int64, backend=backend, depth=6)

    def _spread(self, num_slots: int) -> int:
        """The most rows that the windows of one step take, padding included."""
        groups = max(len(self._token_capacities.sizes), len(self._frame_capacities.sizes))
        return 2 * num_slots + groups * self._window_rows.sizes[-1]

    def _make_ladders(self, num_slots: int, *, deterministic: bool) -> None:
        """A GPU captures each size, so there are few; the CPU takes any."""
        few = self.backend.few_sizes
        config = self.config
        rows = batches_of(num_slots) if few else range(1, num_slots + 1)
        windows = min(num_slots, WIDEST_WINDOW_BATCH) if few else num_slots
        self._rows = Ladder(rows, pinned=deterministic)
        self._window_rows = Ladder(
            [size for size in self._rows.sizes if size <= windows] or [windows],
            pinned=deterministic,
        )
        cache_lengths = steps_of(256 if few else 128, config.t3.max_sequence).sizes
        self._cache_lengths = Ladder(cache_lengths, pinned=deterministic)
        self._text_lengths = steps_of(64 if few else 32, config.t3.max_text_tokens)
        tokens, frames = self.tokens.capacities(), self.frames.capacities(self.tokens)
        self._token_capacities = Ladder(thinned(tokens, ratio=1.15) if few else tokens)
        self._frame_capacities = Ladder(thinned(frames, ratio=1.3) if few else frames)

    def _build_stages(self) -> tuple[CapturedStage, CapturedStage, CapturedStage]:
        """The stages look their modules up at each call, so that a test can put another there."""
        t3, flow, vocoder = self.t3, self.flow, self.vocoder

        def decode(plan: Tensor, size: int) -> Tensor:
            return self.t3.decode(plan[:, 0] != 0, size)

        def solve(plan: Tensor, size: int) -> None:
            self.flow(plan, t3.state.tokens, size)

        def voice(plan: Tensor, size: int) -> Tensor:
            wave: Tensor = self.vocoder(plan, flow.state.mel, size)
            return wave

        samples = SAMPLES_PER_MEL_FRAME * self._frame_capacities.sizes[-1]
        backend, device = self.backend, self.device
        return (
            CapturedStage(
                "t3_decode",
                decode,
                rows=self._rows,
                sizes=self._cache_lengths,
                width=1,
                out=(1, torch.int64),
                backend=backend,
                device=device,
                state=t3,
            ),
            CapturedStage(
                "flow",
                solve,
                rows=self._window_rows,
                sizes=self._token_capacities,
                width=5,
                backend=backend,
                device=device,
                state=flow,
            ),
            CapturedStage(
                "vocoder",
                voice,
                rows=self._window_rows,
                sizes=self._frame_capacities,
                width=5,
                out=(samples, torch.float32),
                backend=backend,
                device=device,
                state=vocoder,
            ),
        )

    @property
    def captured(self) -> list[CapturedStage]:
        return [*self._prefills.values(), self._decode, self._solve, self._voice]

    @property
    def state_bytes(self) -> int:
        """Memory of everything that the steps keep beside the weights."""
        seen = {
            id(buffer): buffer.numel() * buffer.element_size()
            for step in (self.t3, self.flow, self.vocoder)
            for buffer in step.buffers()
        }
        return sum(seen.values())

    def prepare(self) -> Iterator[tuple[CapturedStage, Rung]]:
        """Capture every stage at every size, one at a time."""
        for stage in self.captured:
            for rung in stage.prepare():
                yield stage, rung

    def forget_counts(self) -> None:
        """Count from here on: what came before was the warm-up."""
        self.num_tokens = 0
        self.times.clear()
        for stage in self.captured:
            stage.forget_counts()

    def take_stats(self) -> EngineStats:
        """See `MeasuredEngine`; times of runs that are still on their way come the next time."""
        seconds: dict[str, list[float]] = {}
        while self.times and self.times[0][2].is_over():
            name, start, end = self.times.popleft()
            seconds.setdefault(name, []).append(self.backend.seconds_between(start, end))
        replays: dict[str, Counter[tuple[int, int]]] = {}
        eager_runs: Counter[str] = Counter()
        for stage in self.captured:
            counts, eager = stage.take_counts()
            found = replays.setdefault(stage.name, Counter())
            found.update({(rung.rows, rung.size): count for rung, count in counts.items()})
            eager_runs[stage.name] += eager
        taken, self.num_tokens = self.num_tokens, 0
        if self._asks % ASKS_PER_MEMORY_LOOK == 0 and self.device.type == "cuda":
            self._device_bytes = torch.cuda.memory_reserved(self.device)
        self._asks += 1
        return EngineStats(
            speech_tokens=taken,
            stages=[
                StageStats(
                    name=name,
                    seconds=seconds.get(name, ()),
                    replays=replays[name],
                    eager_runs=eager_runs[name],
                )
                for name in replays
            ],
            device_bytes=self._device_bytes,
        )

    @property
    def gpu(self) -> str | None:
        """See `EngineInfo`."""
        if self.device.type != "cuda":
            return None
        return f"GPU-{torch.cuda.get_device_properties(self.device).uuid}"

    def prepare_voice(self, voice: Voice) -> PreparedVoice:
        """Compute what does not depend on the text, and a prefill for conditions of its length."""
        device = self.device
        weights = self.t3.model.speech_head.weight
        condition = self.t3.model.embed_condition(
            voice.t3_speaker.to(weights), voice.t3_prompt.to(device)
        )
        if condition.shape[1] not in self._conditions:
            self._add_prefill(condition)
        return PreparedVoice(
            condition=condition,
            prompt_tokens=voice.prompt_tokens[0].to(device),
            prompt_mel=voice.prompt_mel[0].T.contiguous().to(device),
            speaker=self.flow.flow.project_speaker(voice.speaker.to(weights))[0].float(),
        )

    def _add_prefill(self, like: Tensor) -> None:
        condition = torch.zeros_like(like)

        def prefill(plan: Tensor, size: int) -> None:
            self.t3.prefill(plan[:, 0], condition, plan[:, 2 : 2 + size], plan[:, 1])

        self._conditions[like.shape[1]] = condition
        self._prefills[like.shape[1]] = CapturedStage(
            "t3_prefill",
            prefill,
            rows=Ladder([1]),
            sizes=self._text_lengths,
            width=2 + self._text_lengths.sizes[-1],
            backend=self.backend,
            device=self.device,
            state=self.t3,
        )

    # What a step is made of.

    def begin(
        self,
        slot: int,
        voice: PreparedVoice,
        text: list[int],
        *,
        seed: int,
        options: SamplingConfig,
        speed: float = 1.0,
    ) -> int:
        """Reset every stage's state of the slot and prefill T3. Returns the positions before the
        first speech token.
        """
        rows = voice.condition.shape[1]
        prefix = self.t3.model.prefix_length(rows, len(text))
        stage = self._prefills[rows]
        size = self._text_lengths.fit(len(text))
        self.t3.state.begin(slot, prefix=prefix, seed=seed, sampling=options)
        self._conditions[rows].copy_(voice.condition)
        spare = stage.plan.shape[1] - 2 - len(text)
        self.launch([Call(stage, [(slot, len(text), *text, *[0] * spare)], size, 1)])
        self.flow.state.begin(
            slot,
            tokens=voice.prompt_tokens,
            mel=voice.prompt_mel,
            speaker=voice.speaker,
            seed=seed,
        )
        self.vocoder.state.begin(slot, seed=seed, speed=speed)
        return prefix

    def decode_call(self, slots: Sequence[int], positions: int) -> Call:
        """A speech token for each of `slots`, none of which has more positions afterwards."""
        rows = self._rows.fit(max(slots) + 1)
        chosen = set(slots)
        plan: list[PlanRow] = [(int(row in chosen),) for row in range(rows)]
        length = self._cache_lengths.fit(positions)
        return Call(self._decode, plan, length, max(slots) + 1, self._tokens)

    def flow_calls(
        self, windows: Sequence[tuple[int, TokenWindow]]
    ) -> Iterator[tuple[Call, list[tuple[int, TokenWindow]]]]:
        """Windows of one shape together."""
        prompt = self.config.flow.max_prompt_tokens
        for size, group in _grouped(
            windows, lambda item: self._token_capacities.fit(prompt + item[1].tokens)
        ):
            for part in self._batches(group):
                rows = [FlowStep.plan_row(slot, window) for slot, window in part]
                yield self._window_call(self._solve, rows, size), part

    def vocoder_calls(
        self, windows: Sequence[tuple[int, FrameWindow, PlanRow]]
    ) -> Iterator[tuple[Call, list[tuple[int, FrameWindow, PlanRow]]]]:
        """Windows of one shape together; each with its row of `VocoderStep.plan_row`."""
        for size, group in _grouped(
            windows, lambda item: self._frame_capacities.fit(item[1].frames)
        ):
            for part in self._batches(group):
                rows = [row for _, _, row in part]
                yield self._window_call(self._voice, rows, size, self._samples), part

    def launch(self, calls: Sequence[Call]) -> list[Pending | None]:
        """Run them in this order; one copy brings all plans. Results come as they are asked for."""
        results: list[Pending | None] = []
        plans = self._staging.send([call.rows for call in calls]) if calls else []
        for call, plan in zip(calls, plans, strict=True):
            start = self.backend.mark()
            result = call.stage.run(plan, call.size)
            self.times.append((call.stage.name, start, self.backend.mark()))
            if call.readback is None or result is None:
                results.append(None)
            else:
                results.append(call.readback.fetch(result[: call.count]))
        return results

    def next_round(self) -> None:
        """A new step begins: results of the step before the last one are forgotten."""
        self._samples.next_round()
        self._tokens.next_round()

    @property
    def most_frames(self) -> int:
        """Mel frames of the largest window of the vocoder."""
        return self._frame_capacities.sizes[-1]

    def _batches(self, group: list[_Item]) -> Iterator[list[_Item]]:
        most = self._window_rows.sizes[-1]
        return (group[start : start + most] for start in range(0, len(group), most))

    def _window_call(
        self,
        stage: CapturedStage,
        rows: list[PlanRow],
        size: int,
        readback: Readback | None = None,
    ) -> Call:
        """Padded with rows that do nothing up to a prepared batch size."""
        spare = self._window_rows.fit(len(rows)) - len(rows)
        padding = (rows[0][0], *[0] * (len(rows[0]) - 1))
        return Call(stage, [*rows, *[padding] * spare], size, len(rows), readback)


def _grouped(
    ready: Sequence[_Item], capacity: Callable[[_Item], int]
) -> Iterator[tuple[int, list[_Item]]]:
    """Windows that share a shape, together."""
    return (
        (size, list(group)) for size, group in groupby(sorted(ready, key=capacity), key=capacity)
    )
