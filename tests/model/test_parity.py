"""Our stages give the numbers of the reference implementation, at full size, one module at a
time.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from chatterbox.checkpoint import fold_weight_norm
from chatterbox.config import FlowConfig, SamplingConfig, T3Config, VocoderConfig
from chatterbox.s3gen.attention_blocks import PADDING_BLOCK
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.t3 import decoder as decoder_module
from chatterbox.t3.decoder import T3Decoder
from chatterbox.t3.model import T3
from chatterbox.t3.sampling import process
from tests.model.parity import Group, weights

SIZES = {
    "t3_turbo": T3Config(),
    "t3_nano": T3Config(layers=12, channels=768, heads=12, mlp_channels=3072),
}
TEXT_ONLY = ("tfmr.wte.weight", "text_head.weight")


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", params=list(SIZES))
def t3(request: pytest.FixtureRequest) -> tuple[T3, Group]:
    config = replace(SIZES[request.param], max_text_tokens=64, max_speech_tokens=64)
    with torch.device("meta"):
        model = T3(config)
    model.load_state_dict(weights(request.param, unused=TEXT_ONLY), assign=True)
    return model.eval(), Group(request.param)


def _condition(model: T3, group: Group) -> Tensor:
    return model.embed_condition(group["in.speaker_emb"], group["in.cond_prompt_speech_tokens"])


def test_t3_teacher_forced(t3: tuple[T3, Group]) -> None:
    """A wrong norm, activation, position table or head moves hidden states and logits."""
    model, group = t3
    condition = _condition(model, group)
    assert condition.shape[1] == group.facts["cond.length"]
    group.assert_close("cond.first4", condition[:, :4])
    group.assert_close("cond.last4", condition[:, -4:])
    text, speech = (
        model.text_emb(group["in.text_tokens"]),
        model.speech_emb(group["in.speech_tokens"]),
    )
    hidden = model(torch.cat([condition, text, speech], dim=1))
    group.assert_close("forward.hidden_last16", hidden[:, -16:])
    group.assert_close("forward.speech_logits_last4", model.speech_head(hidden[:, -4:]))


def test_t3_decodes_the_same_tokens(t3: tuple[T3, Group], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache, positions, start token and order of the processors, through 20 steps of the real
    decoder in slot 1 of 2.
    """
    model, group = t3
    settings = group.facts["decode.settings"]
    processed: list[Tensor] = []
    raw: list[Tensor] = []

    def likeliest(candidates: Tensor, probability: Tensor, uniform: Tensor) -> Tensor:
        processed.append(probability[1].topk(2).values)
        best: Tensor = probability.argmax(dim=1, keepdim=True)
        chosen: Tensor = candidates.gather(1, best).squeeze(1)
        return chosen

    monkeypatch.setattr(decoder_module, "draw", likeliest)
    hook = model.speech_head.register_forward_hook(
        lambda _module, _inputs, out: raw.append(out[1:2])
    )
    decoder = T3Decoder(model, 2, top_k=settings["top_k"])
    text = group["in.text_tokens"]
    condition = _condition(model, group)
    padded = torch.nn.functional.pad(text, (0, 9))  # prefill pads to a bucket
    decoder.prefill(torch.tensor([1]), condition, padded)
    sampling = SamplingConfig(
        temperature=settings["temperature"],
        top_k=settings["top_k"],
        top_p=settings["top_p"],
        repetition_penalty=settings["repetition_penalty"],
    )
    decoder.state.begin(1, prefix=condition.shape[1] + text.shape[1], seed=0, sampling=sampling)
    steps = len(group["decode.tokens"])
    tokens = [int(decoder.decode(torch.tensor([False, True]), 448)[1]) for _ in range(steps)]
    hook.remove()
    assert tokens == group["decode.tokens"].tolist()
    group.assert_close("decode.top2_probs", torch.stack(processed))
    group.assert_close(
        "decode.raw_logits", torch.stack([raw[step] for step in group["decode.logit_steps"]])
    )


def test_sampling_order_and_filters() -> None:
    """Temperature, top-k, top-p, then the penalty: another order keeps other tokens."""
    group = Group("sampling")
    for name in ("turbo0", "turbo1"):
        settings = group.facts[f"{name}.settings"]
        vocabulary = group[f"{name}.probs"].shape[1]
        history = group["in.history_tokens"][0]
        seen = torch.zeros(1, vocabulary, dtype=torch.bool)
        seen[0, history[history < vocabulary]] = True
        candidates, probability = process(
            group["in.cond_logits"][:, :vocabulary],
            temperature=torch.tensor([settings["temperature"]]),
            top_k=settings["top_k"],
            top_p=torch.tensor([settings["top_p"]]),
            penalty=torch.tensor([settings["penalty"]]),
            seen=seen,
        )
        assert int((probability > 0).sum()) == group.facts[f"{name}.kept"]
        group.assert_close(
            f"{name}.probs", torch.zeros(1, vocabulary).scatter(1, candidates, probability)
        )


def _flow(*, steps: int, meanflow: bool) -> Flow:
    flow = Flow(FlowConfig(steps=steps, meanflow=meanflow, guidance=0.0 if meanflow else 0.7))
    flow.load_state_dict(weights("s3gen_meanflow" if meanflow else "s3gen", prefix="flow."))
    return flow.eval()


def _estimate(flow: Flow, group: Group) -> Tensor:
    inputs = {name: group[f"estimator.in.{name}"] for name in ("x", "mu", "cond", "spks", "t")}
    block = torch.zeros(inputs["x"].shape[0], inputs["x"].shape[2], dtype=torch.int64)
    end = group["estimator.in.r"] if flow.config.meanflow else None
    velocity: Tensor = flow.estimator(
        inputs["x"],
        block,
        mu=inputs["mu"],
        speaker=inputs["spks"],
        cond=inputs["cond"],
        time=inputs["t"],
        end_time=end,
    )
    return velocity


def _mel(
    flow: Flow, group: Group, noise: Tensor, *, cut: int = 0, changed: bool = False, spare: int = 0
) -> Tensor:
    """Mel of the new tokens; `cut` tokens are lookahead only; `spare` tokens of right padding
    change nothing.
    """
    tokens = torch.cat([group["in.prompt_token"], group["in.token"]], dim=1)
    if changed:
        tokens[0, -1] = (tokens[0, -1] + 1) % 6561
    count, prompt = tokens.shape[1], 2 * group["in.prompt_token"].shape[1]
    tokens = torch.nn.functional.pad(tokens, (0, spare), value=17)
    block = torch.zeros_like(tokens)
    block[:, count:] = PADDING_BLOCK
    mu = flow.encode(tokens, block)
    block[:, count - cut :] = PADDING_BLOCK
    noise = torch.nn.functional.pad(noise, (0, 2 * spare), value=3.0)
    cond = torch.zeros_like(mu)
    cond[:, :, :prompt] = group["in.prompt_feat"].transpose(1, 2)
    speaker = flow.project_speaker(group["in.embedding"])
    mel = flow.solve(noise, block.repeat_interleave(2, dim=1), mu=mu, speaker=speaker, cond=cond)
    return mel[:, :, prompt : 2 * (count - cut)]


def test_flow_guided_euler() -> None:
    """Encoder, speaker projection, schedule, estimator and ten guided steps; also with right
    padding and lookahead.
    """
    group = Group("flow")
    flow = _flow(steps=10, meanflow=False)
    noise = group["in.noise"]
    tokens = torch.cat([group["in.prompt_token"], group["in.token"]], dim=1)
    group.assert_close("encoder.mu", flow.encode(tokens, torch.zeros_like(tokens)).transpose(1, 2))
    group.assert_close("speaker_projection", flow.project_speaker(group["in.embedding"]))
    group.assert_close("t_span_cosine_10", flow.times)
    group.assert_close("estimator.out", _estimate(flow, group))
    group.assert_close("mel.finalize_true", _mel(flow, group, noise))
    group.assert_close("mel.finalize_true", _mel(flow, group, noise, spare=5))
    group.assert_close("mel.finalize_false", _mel(flow, group, noise, cut=3))
    group.assert_close(
        "mel.finalize_true_last_token_changed", _mel(flow, group, noise, changed=True)
    )
    four = Flow(replace(flow.config, steps=4))
    four.load_state_dict(flow.state_dict())
    group.assert_close("mel.finalize_true_4_steps", _mel(four.eval(), group, noise))


def test_flow_meanflow() -> None:
    """The distilled solver: linear times, the end of each step mixed into the time embedding, no
    guidance.
    """
    group = Group("flow_meanflow")
    flow = _flow(steps=2, meanflow=True)
    group.assert_close("estimator.out", _estimate(flow, group))
    group.assert_close("t_span_2", flow.times)
    prompt = 2 * group["in.prompt_token"].shape[1]
    noise = torch.cat([group["in.noise"][:, :, :prompt], group["in.noised_mels"]], dim=2)
    group.assert_close("mel.finalize_true_2_steps", _mel(flow, group, noise))
    one = Flow(replace(flow.config, steps=1))
    one.load_state_dict(flow.state_dict())
    group.assert_close("mel.finalize_true_1_step", _mel(one.eval(), group, noise))


def test_vocoder() -> None:
    """F0, the source from stored F0 and the waveform from the stored source, each by itself.

    The reference sums the phase in float32; ours is exact, hence the looser bound on the source.
    """
    group = Group("vocoder")
    vocoder = HiFT(VocoderConfig())
    vocoder.load_state_dict(fold_weight_norm(weights("s3gen", prefix="mel2wav.")))
    vocoder.eval()
    mel, f0 = group["in.mel"], group["f0"]
    group.assert_close("f0", vocoder.predict_f0(mel))
    start = torch.zeros(1, dtype=torch.float64)
    phase, noise = group["in.phase"], group["in.noise"]
    silent = vocoder.m_source(f0, start, torch.zeros_like(phase), torch.zeros_like(noise))
    group.assert_close("source.zero", silent, tolerance=1e-3)
    group.assert_close("source.given", vocoder.m_source(f0, start, phase, noise), tolerance=1e-3)
    group.assert_close("wav.zero", vocoder.decode(mel, group["source.zero"]))
    group.assert_close("wav.given", vocoder.decode(mel, group["source.given"]))
    cached = group["source.given"].clone()
    cached[:, :, : group["in.cache_source"].shape[2]] = group["in.cache_source"]
    group.assert_close("wav.cache_source", vocoder.decode(mel, cached))
    # Twice as long with rubbish behind the end: padding by mask is neutral.
    frames = mel.shape[2]
    padded = torch.nn.functional.pad(mel, (0, frames), value=2.0)
    source = torch.nn.functional.pad(group["source.given"], (0, frames * 480), value=0.3)
    wave = vocoder.decode(padded, source, torch.tensor([frames]))
    group.assert_close("wav.given", wave[:, : frames * 480])
