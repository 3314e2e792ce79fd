"""Proposes candidate clicks for policies that choose among a few.

Oracle candidates come from the errors of a mask, blind ones from mask, logits and image.
"""

from synthfm_env.candidates.blind import blind_candidates
from synthfm_env.candidates.features import FEATURES, LIMIT, Candidates
from synthfm_env.candidates.look_ahead import try_candidates, with_answers
from synthfm_env.candidates.oracle import oracle_candidates
from synthfm_env.candidates.prompt_state import PromptState

__all__ = [
    "FEATURES",
    "LIMIT",
    "Candidates",
    "PromptState",
    "blind_candidates",
    "oracle_candidates",
    "try_candidates",
    "with_answers",
]
