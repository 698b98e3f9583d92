"""How far weights in fewer bits take each stage from float32. One JSON line last.

Theory. bfloat16 keeps 8 bits of a number, float16 11. Sampling draws from probabilities, so what
matters for T3 is how far those move (Kullback-Leibler divergence in nats a token) and how often the
likeliest token is another. What matters for the flow is the mel that comes out of all its solver
steps (in dB of log mel; another seed's noise alone changes it by several dB), and for the vocoder
the samples (signal to noise, in dB; from 20 dB on nobody hears it in speech). Each stage gets what
float32 made before it, so that distances do not add up: tokens for T3 and the flow, mel for the
vocoder. Both runs see the same noise.

    python tests/bench/gpu_precision.py [--shape bundled] [--small]
"""

import argparse
import json
import math
import sys

import torch
from torch import Tensor

from chatterbox.api import SlotIndex
from chatterbox.config import MEL_FRAMES_PER_TOKEN, SAMPLES_PER_MEL_FRAME
from chatterbox.engine import ChatterboxEngine
from chatterbox.s3gen.flow_step import FlowStep
from chatterbox.s3gen.vocoder_step import VocoderStep
from chatterbox.s3gen.windows import FrameWindow
from tests.gpu.measure import device_facts
from tests.gpu.shapes import SHAPES, best_device, shaped_engine
from tests.model.random_engine import segment

TEXTS = (
    "It is not difficult to hear the difference, if there is one to be heard.",
    "The train to the north leaves at nine, and it will be raining all day long.",
    "Nobody knew what to say, so they all said nothing.",
)


def spoken_tokens(engine: ChatterboxEngine, text: str) -> tuple[list[int], list[int]]:
    """What the engine draws for a text: text tokens (marked), speech tokens."""
    slot = SlotIndex(0)
    engine.start(slot, segment(0, text, voice=engine.info.default_voice))
    progress = engine._busy(slot)
    while not progress.finished:
        engine.step([slot])
    tokens: list[int] = engine.stages.t3.state.tokens[0, : progress.part.tokens].tolist()
    text_tokens = engine.config.t3.marked(list(progress.part.text_tokens))
    engine.release(slot)
    return text_tokens, tokens


@torch.inference_mode()
def logits(engine: ChatterboxEngine, text: list[int], speech: list[int]) -> Tensor:
    """Of each token of `speech`, those before it given: [tokens, vocab], with sight of the text."""
    stages, config = engine.stages, engine.config.t3
    model, device = stages.t3.model, stages.device
    voice = engine._voices[engine.info.default_voice]
    exaggeration = torch.full((1,), engine.config.sampling.exaggeration, device=device)
    prefix = model.embed_prefix(
        voice.condition,
        torch.tensor([text], device=device),
        num_text=torch.tensor([len(text)], device=device),
        exaggeration=exaggeration,
    )[:, : model.prefix_length(voice.condition.shape[1], len(text))]
    fed = torch.tensor([config.start_speech_token, *speech[:-1]], device=device)
    embedded = model.embed_speech(fed, torch.arange(len(fed), device=device))
    rows = torch.cat([prefix, embedded[None].expand(prefix.shape[0], -1, -1)], dim=1)
    if config.speech_positions_from:
        return _with_fixed_positions(engine, rows, len(fed))
    hidden = model(rows)[:1, -len(fed) :]
    return model.speech_head(hidden)[0].float()  # type: ignore[no-any-return]


def _with_fixed_positions(engine: ChatterboxEngine, rows: Tensor, count: int) -> Tensor:
    """Where positions of speech do not follow those of the text, they are given."""
    from chatterbox.t3.predictor import causal_bias

    model = engine.stages.t3.model
    order = torch.arange(rows.shape[1], device=rows.device)[None]
    positions = order.clone()
    positions[:, -count:] = engine.config.t3.speech_positions_from + torch.arange(
        count, device=rows.device
    )
    hidden = model.transform(rows, positions, causal_bias(order, order))[:1, -count:]
    return model.speech_head(hidden)[0].float()  # type: ignore[no-any-return]


@torch.inference_mode()
def mel(engine: ChatterboxEngine, speech: list[int]) -> Tensor:
    """[frames, mel_bins], window after window."""
    stages = engine.stages
    voice = engine._voices[engine.info.default_voice]
    stages.flow.state.begin(
        0,
        tokens=voice.prompt_tokens,
        mel=voice.prompt_mel,
        speaker=voice.speaker,
        seed=5,
    )
    tokens = torch.zeros_like(stages.t3.state.tokens)
    tokens[0, : len(speech)] = torch.tensor(speech, device=stages.device)
    committed = 0
    prompt = engine.config.flow.max_prompt_tokens
    while window := stages.tokens.next_window(committed, len(speech), finished=True):
        plan = torch.tensor([FlowStep.plan_row(0, window)], device=stages.device)
        stages.flow(plan, tokens, prompt + window.tokens)
        committed = window.committed
    return stages.flow.state.mel[0, : len(speech) * MEL_FRAMES_PER_TOKEN].clone()


@torch.inference_mode()
def wave(engine: ChatterboxEngine, frames: Tensor) -> Tensor:
    """Samples of a whole mel [frames, mel_bins]."""
    stages, count = engine.stages, frames.shape[0]
    stages.vocoder.state.begin(0, seed=5)
    given = torch.zeros_like(stages.flow.state.mel)
    given[0, :count] = frames
    row = VocoderStep.plan_row(0, FrameWindow(0, count, 0, count), known_f0=0, finished=True)
    plan = torch.tensor([row], device=stages.device)
    samples: Tensor = stages.vocoder(plan, given, count)
    return samples[0, : count * SAMPLES_PER_MEL_FRAME].clone()


def distances(exact: ChatterboxEngine, other: ChatterboxEngine, text: str) -> dict[str, float]:
    """Of each stage, given what the exact one made before it."""
    text_tokens, speech = spoken_tokens(exact, text)
    true, found = (logits(engine, text_tokens, speech) for engine in (exact, other))
    true_log, found_log = true.log_softmax(-1), found.log_softmax(-1)
    divergence = (true_log.exp() * (true_log - found_log)).sum(-1).mean()
    frames, other_frames = (mel(engine, speech) for engine in (exact, other))
    decibels = 20 / math.log(10)  # the mel is a natural logarithm of amplitudes
    samples, other_samples = (wave(engine, frames) for engine in (exact, other))
    noise = (samples - other_samples).square().mean()
    return {
        "t3_divergence_nats": float(divergence),
        "t3_same_likeliest": float((true.argmax(-1) == found.argmax(-1)).float().mean()),
        "flow_mel_rms_db": decibels * float((frames - other_frames).square().mean().sqrt()),
        "vocoder_snr_db": 10 * math.log10(float(samples.square().mean() / noise.clamp_min(1e-20))),
    }


def main() -> None:
    has_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="Distance of fewer bits to float32, by stage.")
    parser.add_argument("--shape", choices=SHAPES, default="turbo" if has_gpu else "bundled")
    parser.add_argument("--small", action="store_true", help="one text")
    arguments = parser.parse_args()
    texts = TEXTS[:1] if arguments.small else TEXTS
    exact = shaped_engine(arguments.shape, num_slots=1, eager=True)
    figures = {}
    for dtype in ("bfloat16", "float16"):
        other = shaped_engine(arguments.shape, num_slots=1, eager=True, dtype=dtype)
        found = [distances(exact, other, text) for text in texts]
        figures[dtype] = {
            name: round(sum(item[name] for item in found) / len(found), 6) for name in found[0]
        }
        sys.stderr.write(f"{dtype}: {figures[dtype]}\n")
    facts = device_facts(best_device())
    result = {"bench": "gpu_precision", "shape": arguments.shape, **facts, "dtypes": figures}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
