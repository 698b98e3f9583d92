"""Sizes of T3 and what a client may ask of its sampling, for each official variant."""

from dataclasses import replace

import pytest

from chatterbox.config import SPEED, ConfigError, ModelConfig, SamplingConfig, T3Config
from chatterbox.t3.config import option_specs
from chatterbox.t3.variants import SAMPLING_VARIANTS, T3_VARIANTS

COMMON = {"temperature", "top_p", "repetition_penalty"}
GUIDED = COMMON | {"min_p", "exaggeration", "cfg_weight"}
OPTIONS = {
    "english": GUIDED,
    "multilingual": GUIDED,
    "turbo": COMMON | {"top_k"},
    "nano": COMMON | {"top_k"},
}


@pytest.mark.parametrize("variant", T3_VARIANTS)
def test_client_may_set_what_the_variant_has(variant: str) -> None:
    """An option that the model ignores would be a promise that is not kept; each default lies in
    its range and reaches the sampling.
    """
    sampling = SAMPLING_VARIANTS[variant]
    model = ModelConfig(name=variant, t3=T3_VARIANTS[variant], sampling=sampling)
    assert {spec.name for spec in model.options} == OPTIONS[variant] | {SPEED.name}
    assert all(spec.minimum <= spec.default <= spec.maximum for spec in model.options)
    of_sampling = [spec for spec in model.options if spec is not SPEED]
    lowest = sampling.with_options({spec.name: spec.minimum for spec in of_sampling})
    for spec in option_specs(model.t3, lowest):
        assert spec.default == spec.minimum, spec.name


def test_published_sizes() -> None:
    """34 rows of conditioning and the start token twice in English; 376 rows in Turbo."""
    english, turbo = T3_VARIANTS["english"], T3_VARIANTS["turbo"]
    assert (english.prefix_tokens, english.start_rows, english.rows_per_slot) == (34, 2, 2)
    assert (turbo.prefix_tokens, turbo.start_rows, turbo.rows_per_slot) == (376, 1, 1)
    assert english.max_generated_tokens == 1000
    assert turbo.max_generated_tokens + len(turbo.closing_tokens) == 1000


def test_each_generation_gets_its_marks() -> None:
    """English text stands between start and stop; Turbo's as it is. Room is left for the marks."""
    english, turbo = T3_VARIANTS["english"], T3_VARIANTS["turbo"]
    assert english.marked([7, 8]) == [255, 7, 8, 0]
    assert len(english.marked([1] * english.max_spoken_tokens)) == english.max_text_tokens
    assert turbo.marked([7, 8]) == [7, 8]
    assert turbo.max_spoken_tokens == turbo.max_text_tokens


def test_top_k_is_a_whole_number() -> None:
    """Options arrive as floats; half a token cannot be ranked."""
    changed = SamplingConfig().with_options({"top_k": 40.0, "temperature": 0.5})
    assert (changed.top_k, type(changed.top_k), changed.temperature) == (40, int, 0.5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"backbone": "bert"}, "t3.backbone must be one of gpt2, llama"),
        ({"text_positions": 100}, "t3.text_positions 100 is below what is needed, 513"),
        ({"speech_positions": 900}, "t3.speech_positions 900 is below what is needed, 1001"),
    ],
)
def test_tables_that_are_too_short_are_refused(change: dict[str, object], complaint: str) -> None:
    """On a GPU, a position beyond a table is an assertion that takes the whole process down."""
    with pytest.raises(ConfigError, match=complaint):
        replace(T3_VARIANTS["english"], **change)  # type: ignore[arg-type]  # wrong on purpose


def test_learned_positions_of_gpt2_must_reach() -> None:
    """The same for the one table of GPT-2."""
    with pytest.raises(ConfigError, match=r"t3.positions 1000 is below"):
        T3Config(positions=1000)
