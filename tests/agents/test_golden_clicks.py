"""Golden click sequences: what each protocol clicks, as a separate script with scipy wrote it down.

The script used no code of this project. Each draw is one of ``np.random.default_rng(7)`` over the admissible voxels in
raster order (``rng.integers(n)``, or ``rng.choice(n, p=...)`` for DeepGrow); CVPR 2025 draws from ``RandomState(42)``.
"""

import numpy as np
import pytest

from synthfm_agents import list_protocols, make_clicker
from synthfm_env.envs.actions import STOP

SPACING = (2.0, 0.5, 1.0)
SEED = 7

GOLDEN = {
    "synthfm-mm-v1": [
        (3, 8, 3, 1),
        (7, 8, 3, 1),
        (7, 15, 9, 1),
        (7, 15, 14, 1),
        (0, 3, 12, 0),
        (0, 3, 16, 0),
        (3, 3, 12, 0),
        (3, 3, 16, 0),
    ],
    "ritm-3d-v1": [
        (5, 6, 4, 1),
        (2, 2, 13, 0),
        (4, 11, 3, 1),
        (8, 12, 9, 1),
        (8, 12, 14, 1),
        (8, 17, 9, 1),
        (8, 17, 14, 1),
        (1, 1, 17, 0),
    ],
    "sam2-center-v1": [
        (5, 6, 4, 1),
        (2, 2, 13, 0),
        (4, 11, 3, 1),
        (8, 12, 9, 1),
        (8, 12, 14, 1),
        (8, 17, 9, 1),
        (8, 17, 14, 1),
        (1, 1, 17, 0),
    ],
    "sam2-offline-v1": [
        (2, 3, 14, 0),
        (2, 6, 4, 1),
        (2, 11, 3, 1),
        (0, 1, 18, 0),
        (0, 5, 18, 0),
        (0, 0, 11, 0),
        (0, 0, 14, 0),
        (0, 3, 11, 0),
    ],
    "cvpr25-v1": [
        (5, 9, 4, 1),
        (8, 17, 12, 1),
        (8, 12, 15, 1),
        (8, 12, 9, 1),
        (6, 4, 4, 1),
        (2, 3, 14, 0),
        (3, 12, 7, 1),
        (3, 6, 7, 1),
    ],
    "vista3d-v1": [
        (7, 11, 8, 1),
        (5, 7, 4, 1),
        (2, 2, 15, 0),
        (8, 16, 13, 1),
        (5, 11, 3, 1),
        (8, 11, 14, 1),
        (8, 17, 8, 1),
        (3, 11, 7, 1),
    ],
    "monai-deepgrow-v1": [
        (7, 15, 12, 1),
        (9, 10, 11, 1),
        (7, 12, 2, 1),
        (4, 6, 6, 1),
        (6, 3, 6, 1),
        (9, 19, 8, 1),
        (2, 3, 6, 1),
        (9, 11, 15, 1),
    ],
    "sammed3d-random-v1": [
        (10, 13, 8, 1),
        (7, 4, 7, 1),
        (7, 13, 1, 1),
        (9, 16, 17, 1),
        (6, 12, 9, 1),
        (8, 6, 3, 1),
        (8, 18, 7, 1),
        (2, 11, 3, 1),
    ],
    "synthfm-v1": [(6, 11, 8, 1), (10, 23, 21, 0), (0, 0, 0, 0), (0, 0, 0, 2)],
    "shen2024-v1": [(6, 15, 12, 1), (6, 6, 4, 1), (6, 11, 3, 1), (6, 11, 8, 1), (6, 11, 12, 1), (0, 0, 0, 2)],
    "dong2024-v1": [(6, 15, 12, 1), (0, 0, 0, 2)],
}

# SHA-256 of {"name": ..., "params": {...}, "rule": 1} as sorted JSON.
HASHES = {
    "synthfm-mm-v1": "5f0c0311e4fb666a88eda7c65a3249140007ab2d1415468875ba1d006116f073",
    "ritm-3d-v1": "bdcc79e2c0d3749ec6827477f9041cd5af6dccf017b81350dddf6d558126e3f6",
    "sam2-center-v1": "89c5e1b974ca5efd2dac873997d51fb92a0b8b7efb3bbebab9feb9724ef82a55",
    "sam2-offline-v1": "22ec0db161a1643fcea05fcac9807d1f3b855ec5be2124a7fa93939a5a7a6ead",
    "cvpr25-v1": "8cd2b800c2442376e145eed3201f2167c2e221242851828bcf61fa92d6e57aad",
    "vista3d-v1": "de8af5921e2da9e5892a2cd3f3ab9bf6a7e6800de02d384f7ab4946a9b8acb96",
    "monai-deepgrow-v1": "318f15b308ab222b638cf311e280724fef5bd45caa3e0fd6c6edad974142d7d9",
    "sammed3d-random-v1": "8592683da6a30b0e5f632637a20091beb4a335f32fde4c04385601c295ffbc83",
    "synthfm-v1": "94ac5f876f7e8e701915bb12a304f469698cae6e29871cfac6d73e241b9f8ca4",
    "shen2024-v1": "a578d5203e11012253cbd4d0e7b4eda6cacdb552ec83c16688c6622f64a63bad",
    "dong2024-v1": "0b921bc0105cc700f51264107ef4f7596fa192b448cf2862d5b8bc6b129b0d23",
}


def box(z, y, x):
    """Return a (12, 24, 22) region that is one box."""
    region = np.zeros((12, 24, 22), bool)
    region[slice(*z), slice(*y), slice(*x)] = True
    return region


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_sequence(name):
    """A toy model that, after each click, gets the cube of side 5 around it right."""
    truth = box((2, 9), (3, 14), (1, 9)) | box((6, 11), (10, 21), (7, 18))
    mask = box((0, 6), (0, 7), (11, 20))
    rows = np.full((len(GOLDEN[name]), 4), -1, np.int32)
    clicker = make_clicker(name)
    clicker.reset(SEED)
    for step, expected in enumerate(GOLDEN[name]):
        observation = {
            "image": np.zeros(truth.shape, np.uint8),
            "mask": mask.astype(np.uint8),
            "clicks": rows.copy(),
            "spacing": np.array(SPACING, np.float32),
        }
        action = clicker.act(observation, {"truth": truth})
        assert tuple(action.tolist()) == expected
        if expected[3] == STOP:
            break
        rows[step] = expected
        around = tuple(slice(max(0, i - 2), i + 3) for i in expected[:3])
        mask[around] = truth[around]


def test_every_protocol_has_its_golden_sequence_and_hash():
    assert list_protocols() == HASHES
    assert GOLDEN.keys() == HASHES.keys()


def test_the_hash_follows_from_the_parameters():
    default = make_clicker("synthfm-v1")
    same, other = (make_clicker("synthfm-v1", positives=1, negatives=n) for n in (2, 3))
    assert same.protocol_hash == default.protocol_hash != other.protocol_hash
    assert dict(other.params) == {"positives": 1, "negatives": 3}
    with pytest.raises(TypeError):
        other.params["negatives"] = 2
