"""On a real device: no step synchronises, each can be captured, and replay equals the eager call.

`make gpu-check` runs these where there is a GPU. The CPU's share of the proof is
tests/model/test_device_guard.py.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from chatterbox.config import ModelConfig
from chatterbox.s3gen.flow_step import FlowStep
from chatterbox.s3gen.noise import NoiseBuffers
from chatterbox.s3gen.vocoder_step import VocoderStep
from chatterbox.s3gen.windows import FrameWindow, TokenWindow
from chatterbox.t3.decoder import T3Decoder
from tests.model.random_engine import CONFIG, LLAMA, random_modules, random_voice

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SLOTS = 2


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode("default")


def _decoder(config: ModelConfig = CONFIG) -> tuple[T3Decoder, Callable[[], Tensor]]:
    t3, _, _ = random_modules(config)
    decoder = T3Decoder(t3, SLOTS, top_k=50).cuda()
    for slot in range(SLOTS):
        decoder.state.begin(slot, prefix=30, seed=slot, sampling=CONFIG.sampling)
    stepping = torch.tensor([True, True], device="cuda")
    return decoder, lambda: decoder.decode(stepping, 128)


def _guided_decoder() -> tuple[T3Decoder, Callable[[], Tensor]]:
    return _decoder(LLAMA)


def _flow() -> tuple[FlowStep, Callable[[], Tensor]]:
    _, flow, _ = random_modules()
    step = FlowStep(flow, NoiseBuffers(CONFIG), CONFIG, SLOTS).cuda()
    voice = random_voice()
    for slot in range(SLOTS):
        step.state.begin(
            slot,
            tokens=voice.prompt_tokens[0].cuda(),
            mel=voice.prompt_mel[0].T.cuda(),
            speaker=flow.project_speaker(voice.speaker.cuda())[0],
            seed=slot,
        )
    window = TokenWindow(0, 0, 8, 3)
    plan = torch.tensor([FlowStep.plan_row(slot, window) for slot in range(SLOTS)], device="cuda")
    tokens = torch.randint(0, 6561, (SLOTS, CONFIG.t3.max_speech_tokens + 1), device="cuda")

    def run() -> Tensor:
        step(plan, tokens, 21)
        return step.state.mel[:, :16]

    return step, run


def _vocoder() -> tuple[VocoderStep, Callable[[], Tensor]]:
    _, _, vocoder = random_modules()
    step = VocoderStep(vocoder, NoiseBuffers(CONFIG), CONFIG, SLOTS).cuda()
    window = FrameWindow(0, 16, 0, 8)
    rows = [VocoderStep.plan_row(slot, window, known_f0=0, finished=False) for slot in range(SLOTS)]
    plan = torch.tensor(rows, device="cuda")
    mel = torch.randn(SLOTS, 2 * CONFIG.t3.max_speech_tokens + 1, 80, device="cuda")
    return step, lambda: step(plan, mel, 16)


BUILDERS = (_decoder, _guided_decoder, _flow, _vocoder)


@pytest.mark.parametrize("build", BUILDERS)
def test_steady_state_never_synchronises(
    build: Callable[[], tuple[object, Callable[[], Tensor]]],
) -> None:
    """One hidden `.item()` or pageable copy stalls every session on the device."""
    _, run = build()
    run()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    for _ in range(3):
        run()


@pytest.mark.parametrize("build", BUILDERS)
def test_captured_is_eager(build: Callable[[], tuple[object, Callable[[], Tensor]]]) -> None:
    """Rebinding a tensor that a graph holds shows here: the replay would read the old one."""
    _, eager_run = build()
    _, captured_run = build()
    expected = [eager_run().clone() for _ in range(5)]
    for _ in range(2):  # warm-up on a side stream, as capture requires
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch declares none
        with torch.cuda.stream(stream):
            captured_run()
        stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = captured_run()
    # Two runs were eager; capture itself runs nothing.
    for step in range(2, 5):
        graph.replay()
        torch.cuda.synchronize()
        assert torch.allclose(out.float(), expected[step].float(), atol=1e-4)
