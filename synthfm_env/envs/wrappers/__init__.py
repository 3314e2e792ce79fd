"""Wrappers of the environments: other actions and observations, noisy clicks, costs of effort, records.

`gym.make` with the spec of a wrapped environment makes it again, wrappers included.
"""

from synthfm_env.envs.wrappers.candidate_clicks import CandidateClicks, VectorCandidateClicks
from synthfm_env.envs.wrappers.continuous_action import ContinuousAction
from synthfm_env.envs.wrappers.effort_cost import EffortCost
from synthfm_env.envs.wrappers.error_map import ErrorMap
from synthfm_env.envs.wrappers.flat_action import FlatAction
from synthfm_env.envs.wrappers.noisy_clicks import NoisyClicks
from synthfm_env.envs.wrappers.packed_mask import PackedMask, unpack_mask
from synthfm_env.envs.wrappers.record_steps import RecordSteps
from synthfm_env.envs.wrappers.slice_locked_action import SliceLockedAction
from synthfm_env.envs.wrappers.undo_action import UndoAction

__all__ = [
    "CandidateClicks",
    "ContinuousAction",
    "EffortCost",
    "ErrorMap",
    "FlatAction",
    "NoisyClicks",
    "PackedMask",
    "RecordSteps",
    "SliceLockedAction",
    "UndoAction",
    "VectorCandidateClicks",
    "unpack_mask",
]
