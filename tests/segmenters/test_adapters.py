"""Tests segmenters by name: instructions for missing parts, and refused options."""

import subprocess
import sys
from pathlib import Path

import pytest

from synthfm_env.errors import InputError
from synthfm_env.segmenters import adapters, list_segmenters, make_segmenter, missing_for
from synthfm_env.segmenters.adapters import ADAPTERS, find_adapter


def test_every_adapter_is_listed_with_one_line() -> None:
    listed = list_segmenters()
    assert set(ADAPTERS) <= set(listed)
    assert all(description and "\n" not in description for description in listed.values())


def test_listing_what_is_missing_imports_no_model() -> None:
    code = (
        "import sys; from synthfm_env.segmenters import list_segmenters, missing_for;"
        "[missing_for(name) for name in list_segmenters()];"
        "print(sorted({'torch', 'sam2', 'medim', 'nnInteractive', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_missing_names_the_extra_the_file_its_page_and_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SYNTHFM_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(adapters, "find_spec", lambda name: None)
    missing = missing_for("sam-med3d-turbo")
    assert missing is not None
    assert 'pip install "synthfm_env[sammed3d]"' in missing
    assert "huggingface.co/blueyo0" in missing
    assert str(tmp_path / "sam_med3d_turbo.pth") in missing
    assert missing_for("bridge") is None
    official = missing_for("sam2.1-hiera-base-plus")
    assert official is not None
    assert "sam2.1_hiera_base_plus.pt" in official
    (tmp_path / "sam2.1_hiera_base_plus.pt").touch()
    assert missing_for("sam2.1-hiera-base-plus") is None


def test_a_name_is_split_at_its_first_colon() -> None:
    assert find_adapter("nninteractive:http://127.0.0.1:1527") == ("nninteractive", "http://127.0.0.1:1527")
    assert find_adapter("my.module:Class") is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bridge", {}, "bridge:COMMAND"),
        ("cvpr25:  ", {}, "cvpr25:COMMAND"),
        ("nninteractive", {}, "nninteractive:URL"),
        ("nninteractive:localhost", {}, "http://127.0.0.1:1527"),
        ("random-walker:fast", {}, "takes nothing after a colon"),
        ("random-walker", {"mode": "exact"}, "'random-walker' has no presets"),
        ("random-walker", {"options": {"planes": 3}}, "planes"),
        ("random-walker", {"time_limit_s": 3.0}, "without one"),
        ("random-walker", {"device": "cuda"}, "no device"),
        ("geodesic", {"time_limit_s": 3.0}, "runs in this process"),
        ("bridge:python x.py", {"time_limit_s": 0.0}, "more than 0"),
        ("sam-vit-b:/no/such/file.pth", {}, "fetch sam_vit_b_01ec64.pth from https://github.com/facebookresearch"),
        ("sam-med3d-turbo:/no/such/file.pth", {}, "NAME:PATH"),
        ("random-walk", {}, "did you mean random-walker"),
        ("geodesic", {"device": "foo"}, "no device"),
        ("models/sam_vit_b_01ec64.pth", {}, "sam-vit-b:PATH.*sam-med3d-turbo:PATH"),
        ("geodesic:fast", {}, "takes nothing after a colon$"),
        ("sam2.1-hiera-tiny:/x.pt", {}, "no name before its path: give '/x.pt'"),
        ("synthfm3d-nano:/x.safetensors", {}, "takes nothing after a colon$"),
    ],
)
def test_a_wrong_name_or_option_is_refused_with_what_to_do(name: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_segmenter(name, **options)
