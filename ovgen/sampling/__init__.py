"""From logits to tokens, in numpy."""

from ovgen.sampling.constraint import Constraint
from ovgen.sampling.logprobs import token_logprobs
from ovgen.sampling.sampler import Choice, Sampler
from ovgen.sampling.state import SamplerState
from ovgen.sampling.stop import StopStrings

__all__ = ["Choice", "Constraint", "Sampler", "SamplerState", "StopStrings", "token_logprobs"]
