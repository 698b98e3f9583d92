"""Decoding step by step, with a cache, is the transformer over the whole sequence; each slot has
parameters of its own.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from chatterbox.config import SPEECH_CODES, T3Config
from chatterbox.t3 import decoder as decoder_module
from chatterbox.t3.build import build_t3
from chatterbox.t3.decoder import T3Decoder
from chatterbox.t3.llama import LlamaT3
from chatterbox.t3.model import T3
from chatterbox.t3.predictor import TokenPredictor, causal_bias
from chatterbox.t3.sampling import SamplingRows, process_guided
from tests.model.random_engine import CONFIG, LLAMA

STEPS = 9
NUM_TEXT = 12
TOP_K = 50


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def _model(config: T3Config) -> TokenPredictor:
    torch.manual_seed(3)
    model = build_t3(config).eval()
    model.speech_head.weight.mul_(6)
    return model


def _condition(model: TokenPredictor, seed: int = 5) -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    config = model.config
    prompt = torch.randint(0, SPEECH_CODES, (1, config.prompt_tokens), generator=chance)
    speaker = torch.randn(1, config.speaker_channels, generator=chance)
    return model.embed_condition(speaker, prompt)


def _begin(decoder: T3Decoder, slot: int, text: Tensor, *, seed: int = 11, **options: float) -> int:
    """Set up a slot as the engine does, with text that is padded as to a bucket. Returns the
    length of its prefix.
    """
    condition = _condition(decoder.model)
    prefix = decoder.model.prefix_length(condition.shape[1], text.shape[1])
    sampling = CONFIG.sampling.with_options(options)
    decoder.state.begin(slot, prefix=prefix, seed=seed, sampling=sampling)
    padded = torch.nn.functional.pad(text, (0, 20), value=1)
    decoder.prefill(torch.tensor([slot]), condition, padded, torch.tensor([text.shape[1]]))
    return prefix


def _text(config: T3Config, seed: int = 1) -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    return torch.randint(0, config.text_vocab, (1, NUM_TEXT), generator=chance)


def _steps(decoder: T3Decoder, slot: int) -> tuple[list[int], Tensor]:
    """Tokens of one slot that steps alone, and the logits that they were drawn from."""
    stepped: list[Tensor] = []
    rows = decoder.config.rows_per_slot
    hook = decoder.model.speech_head.register_forward_hook(
        lambda _module, _inputs, out: stepped.append(out[slot * rows : (slot + 1) * rows])
    )
    stepping = torch.arange(slot + 1) == slot
    tokens = [int(decoder.decode(stepping, 64)[slot]) for _ in range(STEPS)]
    hook.remove()
    assert len(set(tokens)) > 3
    return tokens, torch.stack(stepped, dim=1)


@pytest.mark.parametrize("speech_positions_from", [0, 300])
def test_steps_are_the_whole_sequence(speech_positions_from: int) -> None:
    """The cache, the bucket's padding and the learned positions of the speech part: each step's
    logits are those of one pass over everything so far.
    """
    config = replace(CONFIG.t3, speech_positions_from=speech_positions_from)
    model, text = _model(config), _text(config)
    assert isinstance(model, T3)
    decoder = T3Decoder(model, 2, top_k=TOP_K)
    prefix = _begin(decoder, 1, text, temperature=1.0)
    tokens, stepped = _steps(decoder, 1)

    speech = torch.tensor([[config.start_speech_token, *tokens[:-1]]])
    embeddings = torch.cat(
        [_condition(model), model.text_emb(text), model.speech_emb(speech)], dim=1
    )
    index = torch.arange(prefix + STEPS)[None]
    start = speech_positions_from or prefix
    learned = torch.cat([torch.arange(prefix), torch.arange(start, start + STEPS)])[None]
    hidden = model.tfmr(embeddings, learned, causal_bias(index, index))
    whole = model.speech_head(hidden[:, prefix:])
    assert (stepped - whole).abs().max() <= 1e-4 * whole.std()


def test_guided_steps_are_the_whole_sequence() -> None:
    """The same on Llama, for both rows of the pair: the start token twice, positions that restart,
    the row that sees the positions of the text but not the text.
    """
    config = LLAMA.t3
    model, text = _model(config), _text(config)
    assert isinstance(model, LlamaT3)
    decoder = T3Decoder(model, 2, top_k=TOP_K)
    prefix = _begin(decoder, 1, text, temperature=1.0, exaggeration=0.9)
    tokens, stepped = _steps(decoder, 1)

    seen = model.embed_text(text)
    unseen = seen - model.text_emb(text)
    start = model.embed_sequence(torch.tensor([[config.start_speech_token]]))
    speech = model.embed_sequence(torch.tensor([[config.start_speech_token, *tokens[:-1]]]))
    before = [_condition(model), model.cond_enc.emotion(torch.tensor([0.9]))]
    pair = torch.cat([torch.cat([*before, part, start, speech], dim=1) for part in (seen, unseen)])
    assert pair.shape[1] == prefix + STEPS
    whole = model.speech_head(model(pair)[:, prefix:])
    assert (stepped - whole).abs().max() <= 1e-4 * whole.std()
    assert (whole[0] - whole[1]).abs().max() > 0.1 * whole.std()


@pytest.mark.parametrize("config", [CONFIG.t3, LLAMA.t3], ids=["gpt2", "llama"])
def test_a_row_that_does_not_step_is_bit_for_bit_untouched(config: T3Config) -> None:
    """A paused slot between two that step: state, cache and tokens stay as they are."""
    decoder = T3Decoder(_model(config), 3, top_k=TOP_K)
    for slot in range(3):
        _begin(decoder, slot, _text(config, slot), seed=slot)
    decoder.decode(torch.tensor([True, True, True]), 64)
    rows = slice(config.rows_per_slot, 2 * config.rows_per_slot)
    state = {name: tensor[1].clone() for name, tensor in decoder.state.named_buffers()}
    keys = decoder.cache.keys[:, rows, :, : decoder.cache.scratch].clone()
    for _ in range(4):
        decoder.decode(torch.tensor([True, False, True]), 64)
    for name, tensor in decoder.state.named_buffers():
        kept = tensor[1][:-1] if name == "tokens" else tensor[1]  # the last column is scratch
        before = state[name][:-1] if name == "tokens" else state[name]
        assert torch.equal(kept, before), name
    assert torch.equal(decoder.cache.keys[:, rows, :, : decoder.cache.scratch], keys)
    assert int(decoder.state.num_tokens[0]) == 5


OPTIONS: dict[str, list[dict[str, float]]] = {
    "gpt2": [
        {"temperature": 0.2},
        {"top_k": 3},
        {"top_p": 0.3},
        {"repetition_penalty": 3.0},
    ],
    "llama": [
        {"temperature": 0.2},
        {"min_p": 0.9},
        {"top_p": 0.3},
        {"repetition_penalty": 3.0},
        {"exaggeration": 2.0},
        {"cfg_weight": 0.0},
    ],
}


@pytest.mark.parametrize("config", [CONFIG.t3, LLAMA.t3], ids=["gpt2", "llama"])
def test_each_slot_has_its_own_options(config: T3Config) -> None:
    """Slots with different options in one batch draw what each of them draws when all have the
    same, each option has an effect, and no tensor changes its address: a captured step would go on
    reading the old one.
    """
    choices = [{}, *OPTIONS[config.backbone]]
    model = _model(config)
    # A model that likes to say the same again, or the penalty would have nothing to weaken.
    model.speech_head.weight.copy_(0.4 * model.speech_emb.weight)
    decoder = T3Decoder(model, len(choices), top_k=TOP_K)
    addresses = {name: tensor.data_ptr() for name, tensor in decoder.named_buffers()}
    everybody = torch.ones(len(choices), dtype=torch.bool)

    def drawn(options: list[dict[str, float]]) -> Tensor:
        for slot, chosen in enumerate(options):
            _begin(decoder, slot, _text(config), seed=11, **({"min_p": 0.0} | chosen))
        return torch.stack([decoder.decode(everybody, 64) for _ in range(STEPS)], dim=1)

    mixed = drawn(choices)
    for slot, chosen in enumerate(choices):
        assert torch.equal(drawn([chosen] * len(choices))[slot], mixed[slot]), chosen
        assert slot == 0 or not torch.equal(mixed[0], mixed[slot]), f"{chosen} changes nothing"
    assert {name: tensor.data_ptr() for name, tensor in decoder.named_buffers()} == addresses


def test_without_guidance_the_row_that_sees_the_text_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`cfg_weight=0`, which stops the reference's English model, is the plain model here."""
    model = _model(LLAMA.t3)
    decoder = T3Decoder(model, 1, top_k=TOP_K)
    _begin(decoder, 0, _text(LLAMA.t3), cfg_weight=0.0)
    combined: list[Tensor] = []

    def noting(logits: Tensor, rows: SamplingRows) -> tuple[Tensor, Tensor]:
        combined.append(logits)
        return process_guided(logits, rows)

    monkeypatch.setattr(decoder_module, "process_guided", noting)
    _, stepped = _steps(decoder, 0)
    assert torch.equal(torch.cat(combined), stepped[0])


@pytest.mark.parametrize("config", [CONFIG.t3, LLAMA.t3], ids=["gpt2", "llama"])
def test_only_tokens_with_sound_are_kept(config: T3Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids from 6561 up have no row in the flow's table: on a GPU, one of them ends the process.
    They are fed back, but neither kept nor left in the scratch column.
    """
    top = config.speech_vocab - 1
    said = [17, SPEECH_CODES, 6560, 0, top, config.stop_speech_token]
    draws = iter(said)
    monkeypatch.setattr(decoder_module, "draw", lambda *_: torch.tensor([next(draws)]))
    decoder = T3Decoder(_model(config), 1, top_k=TOP_K)
    _begin(decoder, 0, _text(config))
    for token in said:
        decoder.decode(torch.tensor([True]), 64)
        assert int(decoder.state.last_token[0]) == token
    tokens = decoder.state.tokens
    assert tokens.dtype == torch.int64
    assert int(decoder.state.num_tokens[0]) == 3
    assert tokens[0, :3].tolist() == [17, 6560, 0]
    assert int(tokens.max()) < SPEECH_CODES


def test_closing_tokens_follow_the_last_one() -> None:
    """Turbo's flow sees silence behind the speech; without room for it, it would be cut off."""
    config = replace(CONFIG.t3, closing_tokens=(4299, 4300))
    decoder = T3Decoder(_model(config), 2, top_k=TOP_K)
    decoder.state.close(1, config.max_generated_tokens)
    longest = config.max_speech_tokens
    assert decoder.state.tokens[1, longest - 2 : longest].tolist() == [4299, 4300]
    assert not decoder.state.tokens[0].any()
