"""T3 of every official variant gives the numbers of the reference implementation: conditioning,
teacher-forced pass and greedy decoding, at full size, one model at a time.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from chatterbox.config import SamplingConfig
from chatterbox.t3 import decoder as decoder_module
from chatterbox.t3.alignment import AlignedT3Decoder
from chatterbox.t3.build import build_t3
from chatterbox.t3.decoder import T3Decoder
from chatterbox.t3.llama import LlamaT3, build_rotary_frequencies
from chatterbox.t3.predictor import TokenPredictor
from chatterbox.t3.variants import SAMPLING_VARIANTS, T3_VARIANTS
from tests.model.every_array import Compute, assert_every_array
from tests.model.parity import Group, weights

OFFICIAL_FILE = {"english": "t3", "multilingual": "t3_multilingual"}
TEXT_HEAD = "text_head.weight"
UNUSED = ("tfmr.wte.weight", "tfmr.embed_tokens.weight", TEXT_HEAD)
PADDING = 9
SLOT = 1
Decoded = Mapping[str, Tensor]


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


class Case:
    """One variant: its group, its model, and what the reference's passes are for us."""

    def __init__(self, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.group = Group(f"t3_{variant}")
        self.file = OFFICIAL_FILE.get(variant, f"t3_{variant}")
        self.defaults = SAMPLING_VARIANTS[variant]
        with torch.device("meta"):
            self.model: TokenPredictor = build_t3(T3_VARIANTS[variant])
        self.model.load_state_dict(weights(self.file, unused=UNUSED), assign=True)
        self.model.eval()
        self._monkeypatch = monkeypatch
        self.num_text = self.group["in.text_tokens"].shape[1]
        self.condition = self.model.embed_condition(
            self.group["in.speaker_emb"], self.group["in.cond_prompt_speech_tokens"]
        )

    def text_logits(self, hidden: Tensor) -> Tensor:
        """Nobody reads them when speaking, so the head is not part of the model."""
        wanted = weights(self.file, prefix="text_head.")
        return hidden @ wanted["weight"].T

    def decode(
        self,
        prefix: str,
        *,
        make: Callable[..., T3Decoder] = T3Decoder,
        after: Callable[[T3Decoder], None] | None = None,
        **changes: float,
    ) -> Decoded:
        """Greedy steps of the real decoder in one slot of two, after a prefill that is padded as
        to a bucket.
        """
        group, model = self.group, self.model
        settings = group.facts[f"{prefix}.settings"] | changes
        raw: list[Tensor] = []
        best_two: list[Tensor] = []

        def likeliest(candidates: Tensor, probability: Tensor, _uniform: Tensor) -> Tensor:
            best_two.append(probability[SLOT].topk(2).values)
            best = probability.argmax(dim=1, keepdim=True)
            return candidates.gather(1, best)[:, 0]

        self._monkeypatch.setattr(decoder_module, "draw", likeliest)
        rows = model.config.rows_per_slot
        hook = model.speech_head.register_forward_hook(
            lambda _module, _inputs, out: raw.append(out[SLOT * rows :])
        )
        decoder = make(model, SLOT + 1, top_k=settings.get("top_k", 1))
        prefix_length = model.prefix_length(self.condition.shape[1], self.num_text)
        sampling: SamplingConfig = replace(self.defaults, **settings)
        decoder.state.begin(SLOT, prefix=prefix_length, seed=0, sampling=sampling)
        text = torch.nn.functional.pad(group["in.text_tokens"], (0, PADDING), value=3)
        decoder.prefill(torch.tensor([SLOT]), self.condition, text, torch.tensor([self.num_text]))
        tokens: list[Tensor] = []
        stepping = torch.tensor([False] * SLOT + [True])
        while len(tokens) < len(group[f"{prefix}.tokens"]):
            token = decoder.decode(stepping, prefix_length + len(tokens) + 1 + PADDING)
            tokens.append(token[SLOT])
            if after is not None:
                after(decoder)
        hook.remove()
        steps = group[f"{prefix}.logit_steps"]
        return {
            "tokens": torch.stack(tokens),
            "top2_probs": torch.stack(best_two),
            "logit_steps": steps,
            "raw_logits": torch.stack([raw[int(step)] for step in steps]),
        }


def _last(hidden: Tensor) -> Compute:
    """…_lastN: the last N positions."""
    return lambda match: hidden[:, -int(match[1]) :]


@pytest.mark.parametrize("variant", ["turbo", "nano"])
def test_gpt2(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong norm, activation, position table, head, cache, start token or order of the
    processors moves the numbers.
    """
    case = Case(variant, monkeypatch)
    group, model, condition = case.group, case.model, case.condition
    assert condition.shape[1] == group.facts["cond.length"] == model.config.prefix_tokens
    text = model.text_emb(group["in.text_tokens"])
    speech = model.speech_emb(group["in.speech_tokens"])
    hidden = model(torch.cat([condition, text, speech], dim=1))
    text_end = condition.shape[1] + case.num_text
    decoded = case.decode("decode")
    assert_every_array(
        group,
        {
            r"cond\.first(\d+)": lambda match: condition[:, : int(match[1])],
            r"cond\.last(\d+)": _last(condition),
            r"forward\.hidden_last(\d+)": _last(hidden),
            r"forward\.speech_logits_last(\d+)": lambda match: model.speech_head(
                _last(hidden)(match)
            ),
            r"forward\.text_logits_last(\d+)_of_text": lambda match: case.text_logits(
                _last(hidden[:, :text_end])(match)
            ),
            r"decode\.(\w+)": lambda match: decoded[match[1]],
        },
    )


def _forward(case: Case, emotion: float) -> tuple[Tensor, Tensor, Tensor]:
    """Conditioning, and the hidden states of text and speech in a teacher-forced pass."""
    model, group = case.model, case.group
    assert isinstance(model, LlamaT3)
    condition = torch.cat([case.condition, model.cond_enc.emotion(torch.tensor([emotion]))], dim=1)
    text = model.embed_text(group["in.text_tokens"])
    speech = model.embed_sequence(group["in.speech_tokens"])
    hidden = model(torch.cat([condition, text, speech], dim=1))[:, condition.shape[1] :]
    return condition, hidden[:, : case.num_text], hidden[:, case.num_text :]


def _forward_rules(case: Case) -> dict[str, Compute]:
    _, text, speech = _forward(case, case.defaults.exaggeration)
    return {
        r"forward\.speech_latents_last(\d+)": _last(speech),
        r"forward\.text_latents_first(\d+)": lambda match: text[:, : int(match[1])],
        r"forward\.speech_logits_last(\d+)": lambda match: case.model.speech_head(
            _last(speech)(match)
        ),
        r"forward\.text_logits_last(\d+)": lambda match: case.text_logits(_last(text)(match)),
    }


def test_english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resampler, emotion, rotary and learned positions, the start token twice, the row that does
    not see the text, guidance and the order of the processors.
    """
    case = Case("english", monkeypatch)
    done: dict[str, Decoded] = {}

    def condition(match: re.Match[str]) -> Tensor:
        whole, _, _ = _forward(case, float(match[1]))
        return whole[:, -case.group[match[0]].shape[1] :]

    def decoded(match: re.Match[str]) -> Tensor:
        run, emotion = match[1], match[2]
        if run not in done:
            exaggeration = float(emotion or case.defaults.exaggeration)
            done[run] = case.decode(run, exaggeration=exaggeration)
        return done[run][match[3]]

    channels = case.model.config.channels // case.model.config.heads
    assert_every_array(
        case.group,
        _forward_rules(case)
        | {
            r"cond\.emotion_([\d.]+)": condition,
            r"(decode_cfg[\d.]+?(?:_emotion([\d.]+))?)\.(\w+)": decoded,
            "rope_inv_freq": lambda _match: build_rotary_frequencies(channels),
        },
    )


def test_multilingual_with_its_analyzer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with the larger vocabulary and the analyzer of 0.1.7: the heads that it watches,
    where it thinks the speech is, and what it does to the stop token.
    """
    case = Case("multilingual", monkeypatch)
    watched: dict[str, list[Tensor]] = {"attention": [], "position": [], "stop": []}
    adjusted = AlignedT3Decoder.adjusted

    def noting(decoder: AlignedT3Decoder, logits: Tensor) -> Tensor:
        changed = adjusted(decoder, logits)
        watched["stop"].append(changed[SLOT, decoder.config.stop_speech_token])
        return changed

    def after(decoder: T3Decoder) -> None:
        assert isinstance(decoder, AlignedT3Decoder)
        watched["attention"].append(decoder.attention[SLOT])
        watched["position"].append(torch.tensor(decoder.analyzers[SLOT].text_position))

    monkeypatch.setattr(AlignedT3Decoder, "adjusted", noting)
    decoded = case.decode("decode", make=AlignedT3Decoder, after=after)
    assert_every_array(
        case.group,
        _forward_rules(case)
        | {
            r"decode\.mean_aligned_attention": lambda _match: torch.stack(watched["attention"]),
            r"decode\.text_position": lambda _match: torch.stack(watched["position"]),
            r"decode\.eos_logit_after_analyzer": lambda _match: torch.stack(watched["stop"]),
            r"decode\.(tokens|top2_probs|logit_steps|raw_logits)": lambda match: decoded[match[1]],
        },
    )
