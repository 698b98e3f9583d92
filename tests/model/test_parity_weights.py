"""The made-up weights are those that the reference implementation computed its numbers with."""

import math
import zlib

import pytest

from tests.model.parity import manifest
from tools.seeded_weights import FILTERS, model_shapes, seeded

LARGEST = 300_000


@pytest.mark.parametrize("model", list(manifest()["models"]))
def test_every_rule_gives_the_recorded_bits(model: str) -> None:
    """A wrong rule, or a wrong order of the rules, would compare against other weights."""
    entry = manifest()["models"][model]
    recorded = {
        name: info["crc32"]
        for name, info in (entry.get("keys") or entry["different_or_extra"]).items()
        if "crc32" in info and math.prod(info["shape"]) <= LARGEST and name != FILTERS
    }
    shapes = model_shapes(manifest(), model)
    wrong = [
        name
        for name, crc32 in recorded.items()
        if zlib.crc32(seeded(name, shapes[name], manifest()["case_seed"]).numpy().tobytes())
        != crc32
    ]
    assert not wrong
    assert recorded or "same_as" in entry


def test_models_that_share_names_differ_where_the_manifest_says() -> None:
    """Only the differences of a model to its relative are listed; the rest is taken over."""
    models = manifest()["models"]
    for name, entry in models.items():
        assert len(model_shapes(manifest(), name)) == entry.get(
            "entries", len(entry.get("keys", ()))
        )
