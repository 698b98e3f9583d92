"""`T3Config` in, the T3 that it describes out, with random weights."""

from chatterbox.t3.config import T3Config
from chatterbox.t3.llama import LlamaT3
from chatterbox.t3.model import T3
from chatterbox.t3.predictor import TokenPredictor


def build_t3(config: T3Config) -> TokenPredictor:
    """T3 on the backbone that the config names."""
    return LlamaT3(config) if config.guided else T3(config)
