"""Arguments of a wrong type or value anywhere in the Python API: refused in one line, never a bare Python message."""

import gymnasium as gym
import numpy as np
import pytest

import synthfm_env  # noqa: F401  registers the envs
from synthfm_agents import make_clicker
from synthfm_env import (
    Box,
    Click,
    InputError,
    SynthFM3D,
    Volume,
    bundled_volume,
    load_volume,
    make_segmenter,
    save_mask,
    save_volume,
    to_uint8,
)

SHAPE = (4, 32, 32)
IMAGE = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
MASKED = np.ma.array(np.ones(SHAPE, bool), mask=np.eye(32, dtype=bool)[None].repeat(4, 0))


class Undecided:
    """Looks like a truth value until it is asked."""

    def __bool__(self) -> bool:
        raise ValueError("neither")


class Unequal:
    """Raises if it is compared or shown."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("no comparison")

    def __hash__(self) -> int:
        raise ValueError("no hash")

    def __repr__(self) -> str:
        raise ValueError("no text")


def refused(call, *arguments, **named):
    with pytest.raises(InputError) as error:
        call(*arguments, **named)
    assert str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def volume():
    return SynthFM3D(SHAPE, "clear").sample(1)


@pytest.fixture(scope="module")
def started():
    """Return a function that gives the one session of a segmenter without clicks: no refusal may change a session."""
    sessions = {}

    def session_of(name):
        if name not in sessions:
            sessions[name] = make_segmenter(name).start(IMAGE, (1, 1, 1))
        sessions[name].reset()
        return sessions[name]

    yield session_of
    for session in sessions.values():
        session.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"max_clicks": 10**30},
        {"target_dice": "a"},
        {"target_dice": True},
        {"target_dice": np.array([0.5, 0.6])},
        {"start": 5},
        {"start": None},
        {"start": ["click"]},
        {"start": np.array(["a", "b"])},
        {"start": "click", "start_protocol": ["deepest-mm-v1"]},
        {"start": "mask", "start_dice": "a"},
        {"goal": 5},
        {"protocol": 5},
        {"reveal_truth": "no"},
        {"reveal_truth": Undecided()},
        {"recipe": Unequal()},
        {"segmenter": Unequal()},
        {"reward": Unequal()},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_a_wrong_argument_of_an_environment(changes):
    refused(
        gym.make, "SynthFM/Synthetic3D-v0", **{"shape": SHAPE, "recipe": "clear", "segmenter": "geodesic"} | changes
    )


@pytest.mark.parametrize("options", [5, "a", [1], Unequal()], ids=lambda options: type(options).__name__)
def test_reset_options_that_are_no_dict(options):
    env = gym.make("SynthFM/Synthetic3D-v0", shape=SHAPE, recipe="clear", segmenter="geodesic")
    assert "options" in refused(env.unwrapped.reset, seed=0, options=options)


@pytest.mark.parametrize("image", [{"bundled": 5}, {"bundled": None}, {"bundled": []}, {"layout": []}, {5: 1}, {}])
def test_a_description_of_a_volume_that_is_none(image):
    refused(gym.make, "SynthFM/Volume-v0", image=image, segmenter="geodesic")


@pytest.mark.parametrize(
    "changes",
    [
        {"data": 5},
        {"data": None},
        {"data": [5]},
        {"data": {"kind": "synthetic"}},
        {"data": "a\0b"},
        {"layout": 5},
        {"layout": []},
        {"shape": "abc"},
        {"shape": 5},
        {"spacing": "abc"},
        {"spacing": None},
        {"split": 5},
        {"fractions": "abc"},
        {"fractions": None},
        {"split_seed": "a"},
        {"cache": 5},
        {"structures": 5},
    ],
    ids=lambda changes: "-".join(f"{key}={value!r}" for key, value in changes.items()),
)
def test_a_wrong_argument_of_the_environment_of_a_data_set(changes, volume, tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    save_volume(volume, tmp_path / "images" / "a.nii", tmp_path / "labels" / "a.nii")
    known = {"data": tmp_path, "split": "all", "segmenter": "geodesic", "cache": tmp_path / "cache", "shape": SHAPE}
    refused(gym.make, "SynthFM/Dataset-v0", **known | changes)


@pytest.mark.parametrize("text", [None, 5, b"1,2,3,+", "9" * 5000 + ",1,1,+"], ids=lambda text: type(text).__name__)
def test_a_text_that_is_no_click(text):
    refused(Click.parse, text)


@pytest.mark.parametrize("positive", ["no", 2, None, np.array([True, False]), Undecided(), Unequal()])
def test_a_click_that_is_neither_positive_nor_negative(positive, started):
    session = started("geodesic")
    assert "positive" in refused(session.add, Click((1, 1, 1), positive))
    assert session.add(Click((1, 1, 1), np.True_)).mask[1, 1, 1]


@pytest.mark.parametrize(
    "corners",
    [(None, None), ("abc", "def"), ((0, 0), (1, 1)), ((0, 0, 0.5), (1, 1, 1)), (5, 6), ((False, 0, 0), (1, 1, 1))],
)
def test_corners_that_make_no_box(corners):
    refused(Box, *corners)


@pytest.mark.parametrize("name", ["geodesic", "random-walker", "synthfm3d-nano", "synthfm3d-unet"])
@pytest.mark.parametrize("clicks", [None, 5, Click((1, 1, 1)), [None], "abc", [Unequal()], [], iter([])])
def test_clicks_that_are_no_list_of_clicks(name, clicks, started):
    session = started(name)
    refused(session.prompt, clicks)
    assert session.clicks == ()


@pytest.mark.parametrize(
    "name",
    ["geodesic", "random-walker", pytest.param("synthfm3d-nano", marks=pytest.mark.slow), "synthfm3d-unet"],
)
def test_clicks_of_a_generator_are_clicks(name, started):
    session = started(name)
    session.prompt(click for click in [Click((1, 5, 5)), Click((1, 20, 20), False)])
    assert session.clicks == (Click((1, 5, 5)), Click((1, 20, 20), False))


@pytest.mark.parametrize("prompt", [{"box": 5}, {"box": (1, 2)}, {"mask": 5}, {"mask": MASKED}, {"mask": IMAGE > 300}])
def test_a_box_or_a_mask_that_is_none(prompt, started):
    session = started("synthfm3d-nano")
    refused(session.prompt, **prompt)
    assert session.clicks == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"image": None},
        {"image": [[[1]]]},
        {"image": IMAGE.astype(object)},
        {"image": np.ma.array(IMAGE, mask=IMAGE > 9)},
        {"label": 5},
        {"label": IMAGE.astype(float)},
        {"label": IMAGE.astype(object)},
        {"spacing": None},
        {"spacing": "abc"},
        {"spacing": (1, 1)},
        {"case_id": 5},
        {"structures": 5},
        {"structures": {"liver": 1}},
        {"affine": 5},
        {"affine": np.eye(3)},
        {"affine": np.full((4, 4), np.nan)},
        {"metadata": 5},
    ],
    ids=lambda fields: ",".join(fields),
)
def test_a_field_that_is_none_of_a_volume(fields):
    assert next(iter(fields)) in refused(Volume, **{"image": IMAGE.astype(np.float32)} | fields)


@pytest.mark.parametrize("image", [None, 5, "abc", np.ma.array(IMAGE, mask=IMAGE > 9)], ids=lambda i: type(i).__name__)
def test_an_image_that_is_no_array(image):
    refused(to_uint8, image, "CT")
    for name in ("geodesic", "synthfm3d-nano"):
        refused(make_segmenter(name).start, image, (1, 1, 1))


@pytest.mark.parametrize("path", [None, 5, b"a.nii", "a\0.nii", "", "."], ids=repr)
def test_a_file_that_cannot_be_written(volume, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(save_mask, volume.label, volume, path)
    refused(save_volume, volume, path)
    if path is not None:
        refused(save_volume, volume, "image.nii", path)
    assert list(tmp_path.iterdir()) == []


def test_an_image_and_its_label_are_two_files(volume, tmp_path):
    refused(save_volume, volume, tmp_path / "a.nii", tmp_path / "a.nii")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mask", [None, [[1]], MASKED, np.zeros((2, 2, 2)), IMAGE.astype(object)])
def test_a_mask_that_is_no_array_of_the_grid(volume, mask, tmp_path):
    refused(save_mask, mask, volume, tmp_path / "mask.nii")


def test_no_volume_to_save(tmp_path):
    refused(save_mask, IMAGE, None, tmp_path / "mask.nii")
    refused(save_volume, None, tmp_path / "image.nii")


@pytest.mark.parametrize("name", [None, 5, [], Unequal()], ids=lambda name: type(name).__name__)
def test_a_name_that_is_no_text(name):
    for make in (bundled_volume, make_segmenter, make_clicker, load_volume):
        refused(make, name)


@pytest.mark.parametrize("case_id", [5, [1]])
def test_a_case_id_that_is_no_text(volume, tmp_path, case_id):
    save_volume(volume, tmp_path / "a.nii")
    refused(load_volume, tmp_path / "a.nii", case_id=case_id)


@pytest.mark.parametrize("seed", ["a", -1, 1.5, Unequal()], ids=lambda seed: type(seed).__name__)
def test_a_seed_of_a_clicker_that_is_none(seed):
    assert "seed" in refused(make_clicker("random").reset, seed)


@pytest.mark.parametrize(
    "arguments",
    [
        {"device": 5},
        {"device": "tpu\0"},
        {"preset": 5},
        {"preset": ["full"]},
        {"options": 5},
        {"options": {"planes": "three"}},
        {"options": {"image_size": 10**30}},
        {"options": {"memory": []}},
        {"options": {5: 1}},
        {"options": {"ensemble": 5}},
        {"options": {"refine": True}},
        {"time_limit_s": "a"},
        {"mode": 5},
        {"planes": "no-such-number\0"},
    ],
    ids=lambda arguments: "-".join(f"{key}={value!r}" for key, value in arguments.items()),
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_wrong_argument_of_make_segmenter(arguments):
    refused(make_segmenter, "synthfm3d-nano", **arguments)


@pytest.mark.parametrize("limit", ["a", -1, float("nan"), True], ids=repr)
def test_a_time_limit_of_another_process_that_is_none(limit):
    refused(make_segmenter, "bridge:true", time_limit_s=limit)


@pytest.mark.parametrize(
    "name", ["a\0b:C", "\u202eevil", "synthfm3d-nano\n", "bridge:", "bridge:a\0b", "x" * 5000 + ".pt"]
)
def test_names_that_no_segmenter_has(name):
    refused(make_segmenter, name)


@pytest.mark.parametrize("seed", [None, "a", -1, 1.5, True, [1], Unequal()], ids=lambda seed: type(seed).__name__)
def test_a_seed_of_a_volume_that_is_none(seed):
    refused(SynthFM3D(SHAPE).sample, seed)


@pytest.mark.parametrize(
    "recipe", [None, 5, [1], {5: 1}, "a\0.toml", Unequal()], ids=lambda recipe: type(recipe).__name__
)
def test_a_recipe_that_is_none(recipe):
    refused(SynthFM3D, SHAPE, recipe)


@pytest.mark.parametrize("device", [5, None, "tpu", "cuda:99"], ids=repr)
def test_a_device_that_is_none(device):
    refused(SynthFM3D, SHAPE, device=device)


@pytest.mark.parametrize(
    "structure", [None, 1.5, [1], True, "\u202e", 10**30, Unequal()], ids=lambda s: type(s).__name__
)
def test_a_structure_that_is_none(volume, structure):
    refused(volume.truth, structure)
