"""The flow gives the mel of the reference implementation, at full size: base with guidance, and
meanflow; called directly, and as a window of the step that streams.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from chatterbox.config import (
    LOOKAHEAD_TOKENS,
    MEL_FRAMES_PER_TOKEN,
    SPEECH_CODES,
    FlowConfig,
    ModelConfig,
    T3Config,
)
from chatterbox.s3gen.attention_blocks import PADDING_BLOCK
from chatterbox.s3gen.flow import Flow, build_solver_times
from chatterbox.s3gen.flow_step import FlowStep
from chatterbox.s3gen.noise import NoiseBuffers
from chatterbox.s3gen.windows import TokenWindow
from tests.model.every_array import assert_every_array
from tests.model.parity import Group, seed_module

BASE = FlowConfig(meanflow=False, guidance=0.7, steps=10)
MEANFLOW = FlowConfig(meanflow=True, steps=2)
SPARE = 5
"""Tokens of right padding, which must change nothing."""


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def base() -> Flow:
    return build_flow(BASE, Group("flow"))


@pytest.fixture(scope="module")
def meanflow() -> Flow:
    return build_flow(MEANFLOW, Group("flow_meanflow"))


def build_flow(config: FlowConfig, group: Group) -> Flow:
    """At full size, with the made-up weights, for the sequences of `group`."""
    flow = Flow(config, whole_tokens(group).shape[1] + SPARE)
    seed_module(flow, prefix="flow.")
    return flow.eval()


def set_steps(flow: Flow, steps: int) -> None:
    flow.config = replace(flow.config, steps=steps)
    flow.times = build_solver_times(steps, meanflow=flow.config.meanflow)


def whole_tokens(group: Group) -> Tensor:
    return torch.cat([group["in.prompt_token"], group["in.token"]], dim=1)


def whole_noise(group: Group) -> Tensor:
    """Start noise; meanflow's generated part has its own."""
    if "in.noised_mels" not in group:
        return group["in.noise"]
    new = group["in.noised_mels"]
    return torch.cat([group["in.noise"][:, :, : -new.shape[2]], new], dim=2)


def estimate(flow: Flow, group: Group) -> Tensor:
    inputs = {name: group[f"estimator.in.{name}"] for name in ("x", "mu", "cond", "spks", "t")}
    block = torch.zeros(inputs["x"].shape[0], inputs["x"].shape[2], dtype=torch.int64)
    velocity: Tensor = flow.estimator(
        inputs["x"],
        block,
        mu=inputs["mu"],
        speaker=inputs["spks"],
        cond=inputs["cond"],
        time=inputs["t"],
        end_time=group["estimator.in.r"] if flow.config.meanflow else None,
    )
    return velocity


def solve(
    flow: Flow, group: Group, tokens: Tensor, *, lookahead: int = 0, spare: int = 0
) -> Tensor:
    """Mel of the new tokens but the last `lookahead`, with `spare` tokens of rubbish behind."""
    count, prompt = tokens.shape[1], group["in.prompt_token"].shape[1]
    tokens = functional.pad(tokens, (0, spare), value=17)
    block = torch.zeros_like(tokens)
    block[:, count:] = PADDING_BLOCK
    mu = flow.encode(tokens, block)
    block[:, count - lookahead :] = PADDING_BLOCK
    noise = functional.pad(whole_noise(group), (0, MEL_FRAMES_PER_TOKEN * spare), value=3.0)
    cond = torch.zeros_like(mu)
    cond[:, :, : MEL_FRAMES_PER_TOKEN * prompt] = group["in.prompt_feat"].transpose(1, 2)
    mel = flow.solve(
        noise,
        block.repeat_interleave(MEL_FRAMES_PER_TOKEN, dim=1),
        mu=mu,
        speaker=flow.project_speaker(group["in.embedding"]),
        cond=cond,
    )
    return mel[:, :, MEL_FRAMES_PER_TOKEN * prompt : MEL_FRAMES_PER_TOKEN * (count - lookahead)]


class Encoded:
    """One pass of the encoder, with what came out of its parts."""

    def __init__(self, flow: Flow, tokens: Tensor) -> None:
        parts: dict[str, Tensor] = {}

        def keep(name: str, module: torch.nn.Module) -> None:
            hooks.append(
                module.register_forward_hook(
                    lambda _module, _inputs, output: parts.__setitem__(name, output)
                )
            )

        hooks: list[torch.utils.hooks.RemovableHandle] = []
        keep("lookahead", flow.encoder.pre_lookahead_layer)
        keep("out", flow.encoder)
        for index, layer in enumerate(flow.encoder.encoders, start=1):
            keep(f"block{index}", layer)
        self.mu = flow.encode(tokens, torch.zeros_like(tokens)).transpose(1, 2)
        for hook in hooks:
            hook.remove()
        self._parts = parts

    def part(self, match: re.Match[str]) -> Tensor:
        """`after_PART_first8`, `after_PART_last8`, `out`."""
        whole = self._parts[match["part"]]
        if match["end"] is None:
            return whole
        count = int(match["count"])
        return whole[:, :count] if match["end"] == "first" else whole[:, -count:]


def test_guided(base: Flow) -> None:
    """Encoder, speaker projection, cosine times, estimator and guided Euler steps; with lookahead,
    other step counts and another last token.
    """
    group = Group("flow")
    tokens = whole_tokens(group)
    encoded = Encoded(base, tokens)

    def mel(match: re.Match[str]) -> Tensor:
        set_steps(base, int(match["steps"] or BASE.steps))
        ours = tokens.clone()
        if match["changed"]:
            ours[0, -1] = (ours[0, -1] + 1) % SPEECH_CODES
        lookahead = 0 if match["finalize"] == "true" else LOOKAHEAD_TOKENS
        spare = SPARE if lookahead else 0  # padding is neutral: here with it, there without
        return solve(base, group, ours, lookahead=lookahead, spare=spare)

    assert_every_array(
        group,
        {
            r"encoder\.(?:after_)?(?P<part>lookahead|block\d+|out)(?:_(?P<end>first|last)"
            r"(?P<count>\d+))?": encoded.part,
            r"encoder\.mu": lambda _: encoded.mu,
            r"speaker_projection": lambda _: base.project_speaker(group["in.embedding"]),
            r"t_span_cosine_(\d+)": lambda match: build_solver_times(int(match[1]), meanflow=False),
            r"estimator\.out": lambda _: estimate(base, group),
            r"mel\.finalize_(?P<finalize>true|false)(?:_(?P<steps>\d+)_steps)?"
            r"(?P<changed>_last_token_changed)?": mel,
        },
    )


def test_meanflow(meanflow: Flow) -> None:
    """The distilled solver: linear times, the end of each step mixed into the time embedding, no
    guidance.
    """
    group = Group("flow_meanflow")

    def mel(match: re.Match[str]) -> Tensor:
        set_steps(meanflow, int(match[1]))
        return solve(meanflow, group, whole_tokens(group), spare=SPARE)

    assert_every_array(
        group,
        {
            r"estimator\.out": lambda _: estimate(meanflow, group),
            r"t_span_(\d+)": lambda match: build_solver_times(int(match[1]), meanflow=True),
            r"mel\.finalize_true_(\d+)_steps?": mel,
        },
    )


def commit(flow: Flow, group: Group, *, lookahead: int) -> Tensor:
    """Mel that the streaming step commits for one window over the tokens of `group`, from their
    noise.
    """
    prompt, tokens = group["in.prompt_token"][0], group["in.token"]
    new = tokens.shape[1] - lookahead
    config = ModelConfig(
        name="window",
        noise_frames=MEL_FRAMES_PER_TOKEN * tokens.shape[1],
        t3=T3Config(max_speech_tokens=tokens.shape[1]),
        flow=replace(flow.config, first_windows=(new,), max_prompt_tokens=len(prompt) + 2),
    )
    step = FlowStep(flow, NoiseBuffers(config), config, num_slots=2)
    noise, frames = whole_noise(group)[0], MEL_FRAMES_PER_TOKEN * len(prompt)
    step.noise.prompt[:, :frames] = noise[:, :frames]
    step.noise.flow.copy_(noise[:, frames:])
    step.state.begin(
        1,
        tokens=prompt,
        mel=group["in.prompt_feat"][0].T,
        speaker=flow.project_speaker(group["in.embedding"])[0],
        seed=0,
    )
    window = TokenWindow(first=0, context=0, new=new, lookahead=lookahead)
    plan = torch.tensor([FlowStep.plan_row(1, window)])
    step(plan, tokens.expand(2, -1), len(prompt) + tokens.shape[1] + SPARE)
    return step.state.mel[1:, : MEL_FRAMES_PER_TOKEN * new].transpose(1, 2)


def test_a_window_is_the_reference_call(base: Flow, meanflow: Flow) -> None:
    """What streams is what the fixtures define, not only what the modules under it compute: prompt,
    noise by position, lookahead without mel, and padding up to a prepared size.
    """
    group = Group("flow")
    set_steps(base, BASE.steps)
    group.assert_close("mel.finalize_false", commit(base, group, lookahead=LOOKAHEAD_TOKENS))
    group.assert_close("mel.finalize_true", commit(base, group, lookahead=0))
    group = Group("flow_meanflow")
    set_steps(meanflow, MEANFLOW.steps)
    name = f"mel.finalize_true_{MEANFLOW.steps}_steps"
    group.assert_close(name, commit(meanflow, group, lookahead=0))
