"""A warm engine with captured steps → how far any replay is from the same calls, on every rung."""

import torch
from torch import Tensor

from chatterbox.api import SlotIndex
from chatterbox.device.captured_stage import CapturedStage, Rung
from chatterbox.engine import ChatterboxEngine
from chatterbox.s3gen.vocoder_step import VocoderStep
from chatterbox.s3gen.windows import FrameWindow
from tests.model.random_engine import segment

TEXT = "a text that is long enough for two windows"


def _plan(stage: CapturedStage, rung: Rung, prompt: int) -> Tensor:
    """Real work of the rung's size, for slot 0 in the first row; the other rows rest."""
    plan = torch.zeros(rung.rows, stage.plan.shape[1], dtype=torch.int64)
    if stage.name == "t3_decode":
        plan[0] = 1
    elif stage.name == "t3_prefill":
        plan[0, 1] = rung.size
        plan[0, 2 : 2 + rung.size] = torch.arange(rung.size) % 100
    elif stage.name == "flow":
        new = min(8, rung.size - prompt)
        plan[0] = torch.tensor([0, 0, 0, new, 0])
    else:
        window = FrameWindow(0, min(16, rung.size), 0, 8)
        plan[0] = torch.tensor(VocoderStep.plan_row(0, window, known_f0=0, finished=False))
    return plan.to(stage.plan.device)


def largest_difference(engine: ChatterboxEngine) -> tuple[float, int]:
    """Between replays and calls from the same state, over all buffers and results; and how many
    rungs were compared. The engine is warm; slots 0 and up are reset before.
    """
    for slot in range(engine.info.num_slots):
        engine.start(SlotIndex(slot), segment(-100 - slot, TEXT, seed=slot))
    worst, count = 0.0, 0
    for stage in engine.stages.captured:
        for rung in stage.rungs:
            worst = max(worst, _difference(engine, stage, rung))
            count += 1
    for slot in range(engine.info.num_slots):
        engine.release(SlotIndex(slot))
    return worst, count


@torch.inference_mode()
def _difference(engine: ChatterboxEngine, stage: CapturedStage, rung: Rung) -> float:
    modules = (engine.stages.t3, engine.stages.flow, engine.stages.vocoder)
    buffers = {id(buffer): buffer for module in modules for buffer in module.buffers()}
    before = {key: buffer.clone() for key, buffer in buffers.items()}
    plan = _plan(stage, rung, engine.config.flow.max_prompt_tokens)
    outcomes = []
    for is_replay in (True, False):
        for key, buffer in buffers.items():
            buffer.copy_(before[key])
        stage.plan[: rung.rows].copy_(plan)
        if is_replay:
            result = stage.run(plan, rung.size)
        else:
            stage.call(rung)
            result = stage.result(rung)
        kept = [buffer.clone() for buffer in buffers.values()]
        outcomes.append(kept if result is None else [*kept, result[:1].clone()])
    for key, buffer in buffers.items():
        buffer.copy_(before[key])
    return max(_distance(one, other) for one, other in zip(*outcomes, strict=True))


def _distance(one: Tensor, other: Tensor) -> float:
    if torch.equal(one, other):
        return 0.0
    return float((one.double() - other.double()).abs().max())
