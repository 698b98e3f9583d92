"""The mels and the resamplers give the numbers of the reference implementation."""

from chatterbox.conditioning.mel import prompt_log_mel
from chatterbox.conditioning.resample import resample_for_flow, resample_for_tokens
from tests.model.every_array import assert_every_array
from tests.model.parity import Group


def test_audio_features() -> None:
    """Edges, floor and filters of the prompt's mel, and that the two resamplers are not one."""
    group = Group("audio_features")
    wave = group["in.wav24k"]
    assert_every_array(
        group,
        {
            r"mel24k": lambda _: prompt_log_mel(wave[None]),
            r"mel24k_first_(\d+)_samples": lambda match: prompt_log_mel(
                wave[None, : int(match[1])]
            ),
            r"resample_24k_to_16k_torchaudio": lambda _: resample_for_flow(wave[None]),
            r"resample_24k_to_16k_librosa_soxr_hq": lambda _: resample_for_tokens(wave),
        },
    )
    flow, tokens = resample_for_flow(wave[None])[0], resample_for_tokens(wave)
    assert (flow - tokens).abs().max() > 1e-3 * tokens.std(), "the fixtures tell the two apart"
