import numpy as np
import pytest
from safetensors.torch import save_file
from small_sam2 import make_model

from synthfm_env.errors import InputError
from synthfm_env.segmenters import make_segmenter
from synthfm_env.segmenters.sam2 import FAST, FULL, EngineOptions
from synthfm_env.segmenters.sam2.checkpoints import trained_here
from synthfm_env.segmenters.sam2.options import resolve_options


@pytest.mark.parametrize(
    ("preset", "trained_here", "expected"),
    [
        ("auto", True, (False, FULL)),
        ("auto", False, (False, FAST)),
        ("full", False, (False, FULL)),
        ("fast", True, (False, FAST)),
        ("stock", True, (True, FAST)),
        ("exact", True, (True, FAST)),
    ],
)
def test_a_preset_decides_arithmetic_and_options(preset, trained_here, expected):
    assert resolve_options(preset, None, trained_here=trained_here) == expected


def test_options_by_name_change_the_presets_and_complete_ones_replace_them():
    alone = EngineOptions(planes=3, zoom=True)
    assert resolve_options("auto", {"ensemble": False}, trained_here=True)[1] == alone
    own = EngineOptions(zoom=True)
    assert resolve_options("full", own, trained_here=True)[1] is own


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("best", None, "unknown preset 'best'"),
        ("auto", {"plans": 3}, "did you mean planes"),
        ("auto", {"planes": 2}, "planes=2"),
        ("auto", {"zoom": "yes"}, "zoom='yes'"),
        ("auto", {"ensemble": 3}, "ensemble=3"),
        ("auto", {"refine": True}, "unknown option of SAM 2 'refine'"),
        ("auto", {"feature_budget": 0}, "feature_budget=0"),
        ("auto", {"memory": "nearby"}, "did you mean nearest"),
        ("auto", {"image_size": 100}, r"image_size=100\): expected a multiple of 32 from 32 to 4096"),
        ("auto", {"image_size": 8192}, "image_size=8192"),
        ("auto", {"image_size": True}, "image_size=True"),
        ("auto", {"image_size": "256"}, "image_size='256'"),
        ("stock", {"memory": "nearest"}, "needs fast arithmetic"),
    ],
)
def test_what_is_wrong_with_options_is_named(preset, options, message):
    with pytest.raises(InputError, match=message):
        make_segmenter("synthfm3d-nano", "cpu", preset, options)


@pytest.mark.parametrize("given", [{"preset": "fast"}, {"mode": "exact"}, {"options": {"planes": 3}}])
@pytest.mark.parametrize("name", ["geodesic", "synthfm_env.segmenters.geodesic:Geodesic"])
def test_a_segmenter_refuses_options_that_it_does_not_have(name, given):
    with pytest.raises(InputError, match="leave it out"):
        make_segmenter(name, **given)


def test_arguments_of_the_version_before_warn_and_work():
    with pytest.warns(DeprecationWarning, match="give options="):
        segmenter = make_segmenter("synthfm3d-nano", device="cpu", planes=1)
    assert segmenter.options == EngineOptions(zoom=True, ensemble=True)
    with (
        pytest.warns(DeprecationWarning, match="give options="),
        pytest.raises(InputError, match="in options, not as arguments as well"),
    ):
        make_segmenter("synthfm3d-nano", options=FAST, zoom=True)


def test_weights_fine_tuned_from_an_official_checkpoint_get_the_default_of_trained_weights(tmp_path):
    state = {name: value.contiguous() for name, value in make_model().state_dict().items()}
    save_file(state, tmp_path / "tuned.safetensors", metadata={"official": "sam2.1-hiera-tiny", "image_size": "256"})
    save_file(state, tmp_path / "metas.safetensors")
    assert trained_here(str(tmp_path / "tuned.safetensors"))
    assert not trained_here(str(tmp_path / "metas.safetensors"))
    assert not np.any([trained_here("sam2.1-hiera-tiny"), trained_here(str(tmp_path / "none.safetensors"))])
