"""An engine with busy slots → one call of each stage at a given size, as plain functions: to be
timed, compiled or traced.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from chatterbox.api import SlotIndex
from chatterbox.config import MEL_FRAMES_PER_TOKEN
from chatterbox.device.captured_stage import Rung
from chatterbox.device.transfers import PlanRow
from chatterbox.engine import ChatterboxEngine
from chatterbox.s3gen.flow_step import FlowStep
from chatterbox.s3gen.vocoder_step import VocoderStep
from chatterbox.s3gen.windows import FrameWindow, TokenWindow
from tests.model.random_engine import segment

TEXT = "nothing but letters that somebody would like to hear spoken"


def occupy(engine: ChatterboxEngine, count: int, *, text: str = TEXT) -> None:
    """Segments in the first slots of an idle engine."""
    voice = engine.info.default_voice
    for slot in range(count):
        engine.start(SlotIndex(slot), segment(-1000 - slot, text, voice=voice, seed=slot))


def vacate(engine: ChatterboxEngine, count: int) -> None:
    """Free them again."""
    for slot in range(count):
        engine.release(SlotIndex(slot))


def stage_plans(engine: ChatterboxEngine, *, rows: int) -> dict[str, tuple[Tensor, Rung]]:
    """A plan on the device and its rung for a token, a first window of tokens and its samples, of
    so many slots; rows beyond what a window batch holds are left out.
    """
    stages, first = engine.stages, engine.config.flow.first_windows[0]
    decode, flow, vocoder = stages.captured[-3:]
    prompt = engine.config.flow.max_prompt_tokens
    window = TokenWindow(0, 0, first, 3)
    frames = first * MEL_FRAMES_PER_TOKEN
    sound = FrameWindow(0, frames, 0, frames - engine.config.vocoder.first_right_context_frames)
    batch = min(rows, flow.rows.sizes[-1])
    positions = engine.config.t3.prefix_tokens + engine.config.t3.start_rows + len(TEXT) + 64
    plans: dict[str, tuple[list[PlanRow], Rung]] = {
        "t3_decode": ([(1,)] * rows, decode.fit(rows, min(positions, decode.sizes.sizes[-1]))),
        "flow": (
            [FlowStep.plan_row(slot, window) for slot in range(batch)],
            flow.fit(batch, prompt + window.tokens),
        ),
        "vocoder": (
            [
                VocoderStep.plan_row(slot, sound, known_f0=0, finished=False)
                for slot in range(batch)
            ],
            vocoder.fit(batch, frames),
        ),
    }
    device = stages.device
    tensors = {}
    for name, (plan, rung) in plans.items():
        rest = [(0,) * len(plan[0])] * (rung.rows - len(plan))
        tensors[name] = (torch.tensor([*plan, *rest], device=device), rung)
    return tensors


def stage_calls(engine: ChatterboxEngine, *, rows: int) -> dict[str, Callable[[], Tensor | None]]:
    """The stages as functions of nothing, not captured. Slots need not be busy."""
    stages = engine.stages
    plans = stage_plans(engine, rows=rows)
    token_plan, token = plans["t3_decode"]
    window_plan, window = plans["flow"]
    sound_plan, sound = plans["vocoder"]
    stepping = token_plan[:, 0] != 0

    def decode() -> Tensor:
        return stages.t3.decode(stepping, token.size)

    def flow() -> None:
        stages.flow(window_plan, stages.t3.state.tokens, window.size)

    def vocoder() -> Tensor:
        wave: Tensor = stages.vocoder(sound_plan, stages.flow.state.mel, sound.size)
        return wave

    return {"t3_decode": decode, "flow": flow, "vocoder": vocoder}
