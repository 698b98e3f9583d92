"""The processors of both orders, and the alignment analyzer, decide as the reference's do."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from chatterbox.t3.alignment import AlignmentAnalyzer, Effect
from chatterbox.t3.sampling import SamplingRows, guided, penalised, process, process_guided
from tests.model.every_array import assert_every_array
from tests.model.parity import Group, read_json

EFFECTS = {
    "none": Effect.NONE,
    "suppress_eos": Effect.SUPPRESS_STOP,
    "force_eos": Effect.FORCE_STOP,
}
SPARE = 3.0
"""Parameters of a row beside the one that is compared."""


def _rows(settings: Mapping[str, float], vocabulary: int, history: Tensor) -> SamplingRows:
    """Two rows, of which the first is the reference's: the other has parameters of its own."""

    def both(name: str, absent: float) -> Tensor:
        return torch.tensor([settings.get(name, absent), SPARE])

    seen = torch.zeros(2, vocabulary, dtype=torch.bool)
    seen[0, history[history < vocabulary]] = True
    return SamplingRows(
        temperature=both("temperature", 1.0),
        top_k=both("top_k", vocabulary).long(),
        top_p=both("top_p", 1.0),
        min_p=both("min_p", 0.0),
        penalty=both("penalty", 1.0),
        seen=seen,
    )


def _spread(candidates: Tensor, probability: Tensor, vocabulary: int) -> Tensor:
    return torch.zeros(1, vocabulary).scatter(1, candidates[:1], probability[:1])


def test_both_orders() -> None:
    """Guidance, penalty, temperature, min-p, top-p; and temperature, top-k, top-p, penalty: another
    order, or a neighbour's parameters, keeps other tokens.
    """
    group = Group("sampling")
    history = group["in.history_tokens"][0]
    pair = torch.stack([group["in.cond_logits"], group["in.uncond_logits"]], dim=1)

    def settings(match: re.Match[str]) -> dict[str, Any]:
        found: dict[str, Any] = group.facts[f"{match[1]}.settings"]
        return found

    def after_guidance(match: re.Match[str]) -> Tensor:
        return guided(pair, torch.tensor([settings(match)["cfg"]]))

    def after_penalty(match: re.Match[str]) -> Tensor:
        logits = after_guidance(match)
        rows = _rows(settings(match), logits.shape[1], history)
        return penalised(logits, rows.seen[:1], rows.penalty[:1])

    def llama(match: re.Match[str], **changes: float) -> Tensor:
        logits = after_guidance(match)
        rows = _rows(settings(match) | changes, logits.shape[1], history)
        return _spread(*process_guided(logits.expand(2, -1), rows), logits.shape[1])

    def llama_probs(match: re.Match[str]) -> Tensor:
        kept = {
            "top_p": int((llama(match) > 0).sum()),
            "min_p": int((llama(match, top_p=1.0) > 0).sum()),
        }
        for name, count in kept.items():
            assert count == group.facts[f"{match[1]}.kept_after_{name}"], match[1]
        return llama(match)

    def turbo_probs(match: re.Match[str]) -> Tensor:
        vocabulary = group[match[0]].shape[1]
        logits = group["in.cond_logits"][:, :vocabulary].expand(2, -1)
        rows = _rows(settings(match), vocabulary, history)
        widest = settings(match)["top_k"] + 7  # room that another slot may ask for
        found = _spread(*process(logits, rows, widest=widest), vocabulary)
        assert int((found > 0).sum()) == group.facts[f"{match[1]}.kept"]
        return found

    assert_every_array(
        group,
        {
            r"(llama\d+)\.after_cfg": after_guidance,
            r"(llama\d+)\.after_penalty": after_penalty,
            r"(llama\d+)\.probs": llama_probs,
            r"(turbo\d+)\.probs": turbo_probs,
        },
    )


def test_analyzer() -> None:
    """Each made-up course of attention: where the analyzer thinks the speech is, and when it
    suppresses or forces the stop.
    """
    cases = read_json("analyzer.json")
    assert cases
    for case in cases:
        analyzer = AlignmentAnalyzer(case["text_len"])
        for number, step in enumerate(case["steps"]):
            effect = analyzer.push(torch.tensor(step["attention_text_rows"]), step["next_token"])
            where = f"{case['name']}, step {number}"
            assert effect is EFFECTS[step["effect"]], where
            assert analyzer.text_position == step["text_position"], where
            assert (analyzer.started, analyzer.complete) == (step["started"], step["complete"])
