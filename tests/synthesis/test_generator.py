import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import torch
from golden import FILE, digest, hashes
from machine_kind import machine_kind
from scipy import ndimage

from synthfm_env.errors import InputError
from synthfm_env.synthesis import GENERATOR_VERSION, SynthFM3D, list_recipes
from synthfm_env.torch_threads import one_torch_thread
from synthfm_env.volumes import to_uint8

SHAPE = (16, 64, 64)


@pytest.fixture(scope="module")
def volumes():
    return [SynthFM3D(SHAPE, "any").sample(seed) for seed in range(30)]


def test_the_golden_hashes_hold():
    golden = json.loads(FILE.read_text(encoding="utf-8"))
    assert golden["version"] == GENERATOR_VERSION, "run tests/helpers/golden.py"
    recorded = [entry["hashes"] for entry in golden["machines"] if entry["machine"] == machine_kind()]
    if not recorded:
        pytest.skip(f"no hashes of this kind of machine, {machine_kind()}: tests/helpers/golden.py records them")
    assert hashes() == recorded[0], "the volumes changed: raise GENERATOR_VERSION, run tests/helpers/golden.py"


def test_every_golden_hash_pins_a_recipe_of_its_own():
    for entry in json.loads(FILE.read_text(encoding="utf-8"))["machines"]:
        assert set(entry["hashes"]) == set(list_recipes())
        assert len(set(entry["hashes"].values())) == len(entry["hashes"])


def test_each_kind_of_machine_is_recorded_once_and_by_all_that_decides_bytes():
    kinds = [entry["machine"] for entry in json.loads(FILE.read_text(encoding="utf-8"))["machines"]]
    assert all(set(kind) == set(machine_kind()) for kind in kinds)
    assert all(kind not in kinds[:i] for i, kind in enumerate(kinds))


def test_a_seed_gives_the_same_bytes_on_any_number_of_threads():
    maker = SynthFM3D((16, 96, 96), "any")
    first = [digest(maker.sample(seed)) for seed in range(6)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        again = [digest(maker.sample(seed)) for seed in reversed(range(6))][::-1]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert again == first
    assert len(set(first)) == 6


def test_a_seed_gives_the_same_bytes_in_another_process():
    code = (
        "from golden import digest\nfrom synthfm_env.synthesis import SynthFM3D\n"
        f"print(digest(SynthFM3D({SHAPE}, 'us').sample(7)))"
    )
    here = str(Path(__file__).parents[1] / "helpers")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([here, *sys.path]), "OMP_NUM_THREADS": "2"}
    there = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == digest(SynthFM3D(SHAPE, "us").sample(7))


def test_a_batch_is_its_volumes_one_by_one():
    maker = SynthFM3D((8, 48, 48), "any")
    seeds = [5, 0, 5, np.int64(3)]
    batch = maker.sample_batch(seeds)
    assert [digest(v) for v in batch] == [digest(maker.sample(seed)) for seed in seeds]
    assert not np.shares_memory(batch[0].image, batch[2].image)
    assert np.stack([v.image for v in batch]).shape == (4, 8, 48, 48)
    assert maker.sample_batch([]) == []


def test_python_threads_draw_the_same_bytes_and_leave_torchs_threads_as_they_were():
    maker = SynthFM3D((8, 48, 48), "any")
    alone = [digest(v) for v in maker.sample_batch(range(8))]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda seed: digest(maker.sample(seed)), range(8)))
            found = set(pool.map(lambda _: torch.get_num_threads(), range(8)))
        assert together == alone
        assert found == {3} == {torch.get_num_threads()}
    finally:
        torch.set_num_threads(before)


def test_a_second_python_thread_keeps_to_one_thread_whatever_others_set_meanwhile():
    """Torch gives a new thread the number that was set last anywhere, when it first computes."""
    before, entered, changed, found = torch.get_num_threads(), Event(), Event(), []

    def draw():
        with one_torch_thread():
            entered.set()
            changed.wait(10)
            found.append(torch.get_num_threads())

    thread = Thread(target=draw)
    with one_torch_thread():  # the first
        thread.start()
        entered.wait(10)
        torch.set_num_threads(3)
        changed.set()
        thread.join()
    assert found == [1]
    assert torch.get_num_threads() == before


def test_neither_global_generator_is_used():
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = digest(SynthFM3D(SHAPE).sample(3))
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert digest(SynthFM3D(SHAPE).sample(3)) == first


def test_volumes_are_what_they_say(volumes):
    for volume in volumes:
        assert volume.image.shape == volume.label.shape == SHAPE
        assert volume.image.dtype == np.float32
        assert volume.label.dtype == np.int16
        assert np.isfinite(volume.image).all()
        assert volume.image.flags.c_contiguous
        assert volume.label.flags.c_contiguous
        assert set(np.unique(volume.label)) - {0} == set(volume.structures) == set(range(1, len(volume.structures) + 1))
        assert volume.spacing[1] == volume.spacing[2]
        assert 0.99 < volume.spacing[0] / volume.spacing[1] < 8.01
        assert json.loads(json.dumps(volume.metadata)) == volume.metadata
        assert volume.metadata["generator_version"] == GENERATOR_VERSION
    assert {v.modality for v in volumes} == {"CT", "MR", "US", "other"}
    assert max(v.spacing[0] / v.spacing[1] for v in volumes) > 4


def test_metadata_reproduces_the_volume(volumes):
    for volume in volumes[:5]:
        m = volume.metadata
        assert digest(SynthFM3D(m["shape"], m["recipe"]).sample(m["seed"])) == digest(volume)


def test_structures_are_many_connected_and_not_too_small(volumes):
    for volume in volumes:
        assert 9 <= len(volume.structures) <= 20
        for structure in volume.structures:
            mask = volume.truth(structure)
            assert ndimage.label(mask)[1] == 1
            assert 12 <= mask.sum() <= 0.6 * mask.size


def test_sizes_go_from_three_pixels_to_most_of_the_image(volumes):
    shares = [float((v.label == i).any(0).any(0).sum()) / SHAPE[2] for v in volumes for i in v.structures]
    assert min(shares) <= 4 / SHAPE[2]
    assert max(shares) > 0.75


@pytest.mark.parametrize("recipe", sorted(set(list_recipes()) - {"clear"}))
@pytest.mark.parametrize("shape", [(20, 64, 64), (1, 96, 128)])
def test_every_recipe_draws_as_many_structures_as_asked(recipe, shape):
    maker = SynthFM3D(shape, recipe)
    low, high = maker.recipe.targets
    for seed in range(4):
        assert low <= len(maker.sample(seed).structures) <= high


def test_recipes_choose_modules_and_styles():
    def kinds(recipe):
        volumes = [SynthFM3D(SHAPE, recipe).sample(seed) for seed in range(4, 12)]
        names = {name.rsplit(" ", 1)[0] for v in volumes for name in v.structures.values()}
        return names, {v.modality for v in volumes}

    assert kinds("boundary-only")[0] == {"region"}
    assert "region" not in kinds("shape-only")[0]
    assert {"region", "organ"} <= kinds("both")[0]
    assert kinds("synthfm2d")[0] == {"region", "bezier organ"}
    for recipe, modality in (("ct", "CT"), ("mr", "MR"), ("us", "US"), ("other", "other")):
        assert kinds(recipe)[1] == {modality}


def test_ct_is_in_hounsfield_units():
    values = np.concatenate([SynthFM3D(SHAPE, "ct").sample(seed).image.ravel() for seed in range(12)])
    assert values.min() < -900
    assert values.min() >= -1024
    assert values.max() > 250
    assert values.max() <= 3071
    soft = ((values > -160) & (values < 240)).mean()
    assert 0.3 < soft < 0.95


def test_ultrasound_has_air_outside_its_fan_and_no_label_there():
    maker = SynthFM3D((4, 96, 96), "us")
    cut = 0
    for seed in range(12):
        volume = maker.sample(seed)
        blind = (volume.image == 0).all(0)
        corner = blind[0, 0] and blind[0, -1]
        cut += bool(corner)
        if corner:
            assert not volume.label[:, :3, :3].any()
    assert 3 <= cut <= 11


def test_structures_can_be_seen_in_most_cases(volumes):
    """Barely visible ones are wanted, invisible ones would teach a model to guess."""
    weak = total = 0
    for volume in volumes:
        image = to_uint8(volume.image, volume.modality).astype(float)
        for structure in volume.structures:
            mask = volume.truth(structure)
            ring = ndimage.binary_dilation(mask, iterations=3) & ~ndimage.binary_dilation(mask)
            step = abs(image[mask].mean() - image[ring].mean())
            error = np.hypot(image[mask].std() / mask.sum() ** 0.5, image[ring].std() / ring.sum() ** 0.5)
            weak += step < 2 * error
            total += 1
    assert weak / total < 0.12


def test_2d_images_go_up_to_1024_pixels():
    volume = SynthFM3D((1, 1024, 1024), "synthfm2d").sample(0)
    assert volume.image.shape == (1, 1024, 1024)
    assert len(volume.structures) >= 9


def test_shapes_need_not_be_even():
    for shape in ((1, 16, 16), (3, 17, 61), (33, 20, 47)):
        volume = SynthFM3D(shape, {"targets": [1, 5], "smallest": 4}).sample(1)
        assert volume.image.shape == shape


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"shape": (64, 64)}, ["(64, 64)", "(D, H, W)"]),
        ({"shape": (0, 64, 64)}, ["(0, 64, 64)"]),
        ({"shape": (4, 8, 64)}, ["H, W >= 16"]),
        ({"shape": (4.5, 64, 64)}, ["integers"]),
        ({"shape": (1, 16, 16)}, ["do not fit", "5 would"]),
        ({"device": "tpu"}, ["tpu", "cpu"]),
    ],
)
def test_a_shape_or_recipe_that_cannot_be_drawn_is_refused(kwargs, words):
    with pytest.raises(InputError) as caught:
        SynthFM3D(**kwargs)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True, None])
def test_seeds_are_natural_numbers(seed):
    with pytest.raises(InputError, match=f"seed={seed!r}"):
        SynthFM3D(SHAPE).sample(seed)
    with pytest.raises(InputError, match=f"seed={seed!r}"):
        SynthFM3D(SHAPE).sample_batch([0, seed])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_agrees_statistically():
    def moments(device):
        found = [SynthFM3D(SHAPE, "mr", device).sample(seed) for seed in range(20)]
        return np.mean([v.image.mean() for v in found]), np.mean([len(v.structures) for v in found])

    assert moments("cuda") == pytest.approx(moments("cpu"), rel=0.2)
