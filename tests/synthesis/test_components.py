import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from synthfm_env.synthesis.components import REGION, relabel_components
from synthfm_env.synthesis.visibility import border_contrast, without_structures

raws = arrays(np.int16, st.tuples(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9)), elements=st.integers(0, 4))
KINDS = {1: "organ", 2: "tube", 3: "lesion", 4: REGION}


@given(raws, st.integers(1, 6), st.integers(1, 5))
def test_every_structure_is_one_component_of_one_raw_label(raw, most, smallest):
    label, names = relabel_components(raw, KINDS, most, smallest, largest=0.6)
    assert set(np.unique(label[label > 0])) == set(names) == set(range(1, len(names) + 1))
    assert len(names) <= most
    for i, name in names.items():
        mask = label == i
        assert ndimage.label(mask)[1] == 1
        assert smallest <= mask.sum() <= 0.6 * raw.size
        owners = np.unique(raw[mask])
        assert len(owners) == 1
        assert name == f"{KINDS[int(owners[0])]} {i}"
        # It is a whole component, not a part of one.
        grown = ndimage.binary_dilation(mask) & (raw == owners[0])
        assert np.array_equal(grown, mask)


@given(raws)
def test_no_component_is_lost_while_there_is_room(raw):
    label, names = relabel_components(raw, KINDS, most=1000, smallest=1, largest=1.0)
    expected = sum(ndimage.label(raw == k)[1] for k in KINDS)
    assert len(names) == expected
    assert np.array_equal(label > 0, raw > 0)


def test_organs_go_before_their_shards_and_clusters_last():
    raw = np.zeros((1, 8, 20), np.int16)
    raw[0, 0:3, 0:20] = 4
    raw[0, 4:8, 0:4] = 1
    raw[0, 4:7, 8:10] = 1
    raw[0, 4:6, 14:16] = 2
    assert sorted(n.split()[0] for n in relabel_components(raw, KINDS, 1, 1)[1].values()) == ["organ"]
    assert sorted(n.split()[0] for n in relabel_components(raw, KINDS, 2, 1)[1].values()) == ["organ", "tube"]
    assert sorted(n.split()[0] for n in relabel_components(raw, KINDS, 3, 1)[1].values()) == ["organ", "organ", "tube"]
    assert sorted(n.split()[0] for n in relabel_components(raw, KINDS, 4, 1)[1].values()) == [
        "organ",
        "organ",
        "region",
        "tube",
    ]


def test_an_empty_map_has_no_structures():
    label, names = relabel_components(np.zeros((2, 4, 4), np.int16), KINDS, 9, 1)
    assert not names
    assert not label.any()


def test_border_contrast_is_the_step_that_is_seen():
    label = np.zeros((3, 40, 40), np.int16)
    label[:, 5:15, 5:15] = 1
    label[:, 25:35, 25:35] = 2
    mean = np.where(label == 1, 0.35, np.where(label == 2, 0.1, 0.1)).astype(np.float32)
    texture = np.where(label == 2, -0.2, 0.1).astype(np.float32)
    contrast = border_contrast(label, mean, texture, 2, "MR")
    np.testing.assert_allclose(contrast[1:], [0.25, 0.07], atol=1e-6)
    # Beyond the display window nothing is seen.
    hidden = border_contrast(label, np.where(label == 1, 2000, 900).astype(np.float32), 0 * texture, 2, "CT")
    assert hidden[1] == 0


def test_what_goes_leaves_no_gap_in_the_numbers():
    label = np.array([[[0, 1, 2, 3]]], np.int16)
    left, names = without_structures(
        label, {1: "organ 1", 2: "tube 2", 3: "lesion 3"}, np.array([False, False, True, False])
    )
    assert left.tolist() == [[[0, 1, 0, 2]]]
    assert names == {1: "organ 1", 2: "lesion 2"}
