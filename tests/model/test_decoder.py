"""Decoding step by step, with a cache, is the transformer over the whole sequence."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from chatterbox.t3.decoder import T3Decoder
from chatterbox.t3.model import T3, causal_bias
from tests.model.random_engine import CONFIG

STEPS = 9


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("speech_positions_from", [0, 300])
def test_steps_are_the_whole_sequence(speech_positions_from: int) -> None:
    """The cache, the bucket's padding and the learned positions of the speech part: each step's
    logits are those of one pass over everything so far.
    """
    config = replace(CONFIG.t3, speech_positions_from=speech_positions_from)
    torch.manual_seed(3)
    model = T3(config).eval()
    decoder = T3Decoder(model, 2, top_k=50)
    condition = torch.randn(1, 5, config.channels)
    text = torch.randint(0, config.text_vocab, (1, 12))
    sampling = replace(CONFIG.sampling, temperature=1.0)
    decoder.state.begin(1, prefix=17, seed=11, sampling=sampling)
    padded = torch.nn.functional.pad(text, (0, 20))
    decoder.prefill(torch.tensor([1]), condition, padded, torch.tensor([12]))
    stepped: list[Tensor] = []
    hook = model.speech_head.register_forward_hook(lambda _m, _i, out: stepped.append(out[1]))
    tokens = [int(decoder.decode(torch.tensor([False, True]), 64)[1]) for _ in range(STEPS)]
    hook.remove()
    assert len(set(tokens)) > 3

    speech = torch.tensor([[config.start_speech_token, *tokens[:-1]]])
    embeddings = torch.cat([condition, model.text_emb(text), model.speech_emb(speech)], dim=1)
    index = torch.arange(17 + STEPS)[None]
    start = speech_positions_from or 17
    learned = torch.cat([torch.arange(17), torch.arange(start, start + STEPS)])[None]
    hidden = model.tfmr(embeddings, learned, causal_bias(index, index))
    whole = model.speech_head(hidden[0, 17:])
    assert (torch.stack(stepped) - whole).abs().max() <= 1e-4 * whole.std()


def test_a_row_that_does_not_step_is_bit_for_bit_untouched() -> None:
    """A paused slot between two that step: state, cache and tokens stay as they are."""
    torch.manual_seed(4)
    decoder = T3Decoder(T3(CONFIG.t3).eval(), 3, top_k=50)
    for slot in range(3):
        decoder.state.begin(slot, prefix=20, seed=slot, sampling=CONFIG.sampling)
    everything = torch.tensor([True, True, True])
    decoder.decode(everything, 64)
    state = {name: tensor[1].clone() for name, tensor in decoder.state.named_buffers()}
    keys = decoder.cache.keys[:, 1, : decoder.cache.scratch].clone()
    for _ in range(4):
        decoder.decode(torch.tensor([True, False, True]), 64)
    for name, tensor in decoder.state.named_buffers():
        kept = tensor[1][:-1] if name == "tokens" else tensor[1]  # the last column is scratch
        before = state[name][:-1] if name == "tokens" else state[name]
        assert torch.equal(kept, before), name
    assert torch.equal(decoder.cache.keys[:, 1, : decoder.cache.scratch], keys)
    assert int(decoder.state.num_tokens[0]) == 5
