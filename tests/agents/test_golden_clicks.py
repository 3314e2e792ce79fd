"""Compares the clicks of each protocol with golden sequences that a separate script computed with scipy.

The script used no code of this project. Each draw is one of ``np.random.default_rng(7)`` over the admissible voxels in
raster order (``rng.integers(n)``, or ``rng.choice(n, p=...)`` for DeepGrow); CVPR 2025 draws from ``RandomState(42)``.
"""

import importlib
import sys

import numpy as np
import pytest

from synthfm_agents import list_protocols, make_clicker
from synthfm_agents.behaviour import source_hash
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
    "synthfm-v2": [(6, 11, 8, 1), (10, 23, 21, 0), (0, 0, 0, 0), (0, 0, 0, 2)],
    "shen2024-v1": [(6, 15, 12, 1), (6, 6, 4, 1), (6, 11, 3, 1), (6, 11, 8, 1), (6, 11, 12, 1), (0, 0, 0, 2)],
    "dong2024-v1": [(6, 15, 12, 1), (0, 0, 0, 2)],
}

# Of name, params, rule and the clicks on fixed error maps.
HASHES = {
    "synthfm-mm-v1": "06aab12159f36d8019dda85679c3b90ff7db124d8335b8606d1729566200a204",
    "ritm-3d-v1": "e1c0484974bebe930654a9d558782528918844cb37f69e5abef99fe54096d890",
    "sam2-center-v1": "4ea369f020959f84c0071737adad4e0fafa0ff3160974adaf4c0440a3ddbba98",
    "sam2-offline-v1": "f2e494609b163f3bcf9e52e7a4566f1649cfb56ffacd185bad6a56ffc4fe533b",
    "cvpr25-v1": "74a68f31abc9a19ecc1d6cec05aec22104aca475a850bddbb374686e204b3467",
    "vista3d-v1": "65f8d430e83c12ad566b0b9545762449115badf3f7b38043eb3f107d252dd7a5",
    "monai-deepgrow-v1": "37c7bd799c8dfd7ef734196c3506d94063e20b78b351e0859c3de7325f198225",
    "sammed3d-random-v1": "1fee2fca341798a2311c6a6202ddf298bc1059aa77be409d69917678ab97f392",
    "synthfm-v1": "edf0e989a1e661f30ccaf7e74750a917dacb87d9899c537c4d83b1e7a091d345",
    "synthfm-v2": "94164683cbbb6a77d9b953d8393aa0d3f3db87e49d7e4cec1e149b50c42a5f9c",
    "shen2024-v1": "00c87f911cd9609edb9c1c121c93d70fec31108b041afe35d4ff9118af4d99ba",
    "dong2024-v1": "f00695f912d3c2537586823140c5a29939410210c912c62054837ca404fd55a6",
}


def box(z, y, x):
    """Return a (12, 24, 22) region that is one box."""
    region = np.zeros((12, 24, 22), bool)
    region[slice(*z), slice(*y), slice(*x)] = True
    return region


@pytest.mark.parametrize("name", GOLDEN)
def test_clicks_equal_the_golden_sequence(name):
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


def test_a_rule_that_is_changed_under_its_name_has_another_hash(monkeypatch):
    ritm, mm = make_clicker("ritm-3d-v1"), make_clicker("synthfm-mm-v1")
    before = ritm.protocol_hash
    choose = type(ritm).choose

    def mirrored(self, scene):
        click = choose(self, scene)
        return click and type(click)(click.zyx, not click.positive)

    monkeypatch.setattr(type(ritm), "choose", mirrored)
    assert ritm.protocol_hash != before
    assert mm.protocol_hash == HASHES["synthfm-mm-v1"]


def test_the_hash_leaves_an_episode_alone():
    clicker = make_clicker("sammed3d-random-v1")
    clicker.reset(SEED)
    state = clicker.rng.bit_generator.state
    assert clicker.protocol_hash == HASHES["sammed3d-random-v1"]
    assert clicker.rng.bit_generator.state == state


def test_own_code_is_hashed_by_its_source(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for number in (1, 2):
        (tmp_path / "own_rule.py").write_text(
            "from synthfm_agents import Clicker\n"
            "class Own(Clicker):\n"
            "    name = 'own'\n"
            f"    def act(self, observation, info): return [{number}, 0, 0, 1]\n"
        )
        sys.modules.pop("own_rule", None)
        importlib.invalidate_caches()
        found.append(source_hash(importlib.import_module("own_rule").Own, {}))
    assert found[0] != found[1]
