"""Our stages give the numbers of the reference implementation, at full size, one module at a
time.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from chatterbox.config import SamplingConfig, T3Config
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
