"""A text and the speech tokens that were made of it in; how much each attention head of T3 looks at
each text token while it chooses each speech token, out.

For measuring alone: speaking needs no attention weights, and fast kernels do not give them.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chatterbox.t3.model import T3, Block, causal_bias


@torch.inference_mode()
def attention_to_text(
    model: T3, condition: Tensor, text_tokens: Sequence[int], speech_tokens: Sequence[int]
) -> NDArray[np.float32]:
    """[layers, heads, speech tokens, text tokens]: logarithms of weights, one call for all.
    `condition` is that of a prepared voice.
    """
    config = model.config
    text = torch.tensor([config.marked(text_tokens)])
    num_text = torch.tensor([text.shape[1]])
    prefix = model.embed_prefix(condition, text, num_text=num_text, exaggeration=torch.zeros(1))
    speech = torch.tensor([[config.start_speech_token, *speech_tokens]])
    x = torch.cat([prefix, model.speech_emb(speech)], dim=1)
    start = prefix.shape[1]
    places = torch.arange(x.shape[1])
    learned = torch.where(
        places < start, places, model.positions(places, (places - start).clamp_min(0))
    )
    bias = causal_bias(places[None], places[None])
    x = x + model.tfmr.wpe(learned[None])
    first = start - text.shape[1]
    weights = []
    for layer, block in enumerate(model.tfmr.h):
        assert isinstance(block, Block)
        query, key, _ = block.attn.project(block.ln_1(x))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + bias
        weights.append(scores.log_softmax(-1)[0, :, start:-1, first:start])
        x = block(x, bias, layer, None)
    found: NDArray[np.float32] = torch.stack(weights).float().numpy()
    return found
