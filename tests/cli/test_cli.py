import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthfm_bench import cli
from synthfm_bench.execution import run as runner
from synthfm_env.envs.registration import ENVS

TOYS = Path(__file__).parents[1] / "helpers"
LPS = np.diag([-1.5, -1.5, 4.0, 1.0])
LPS[:3, 3] = [30, 40, -50]
TRUST = "--trust-plugins"
BALL = "toys:Ball"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with a scan and its truth, stored LPS as scanners do, and every way to get a file wrong."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(TOYS)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    label = np.zeros((24, 20, 8), dtype=np.int16)  # as stored: x, y, z
    label[2:9, 3:9, 1:5] = 1
    label[14:22, 11:18, 3:7] = 4
    image = (label * 100 - 50).astype(np.int16)
    nib.save(nib.Nifti1Image(image, LPS), "scan.nii.gz")
    nib.save(nib.Nifti1Image(label, LPS), "truth.nii.gz")
    nib.save(nib.Nifti1Image(np.stack([image, image], axis=-1), LPS), "4d.nii.gz")
    nib.save(nib.Nifti1Image(label[:-1], LPS), "short.nii.gz")
    nib.save(nib.Nifti1Image(label, LPS + np.eye(4)[:, [3, 0, 1, 2]] * 40), "moved.nii.gz")
    whole = Path("scan.nii.gz").read_bytes()
    Path("cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    Path("text.nii").write_text("not an image\n")
    return tmp_path


def synthfm(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["synthfm", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


BENCH = ("bench", "quick", "--segmenter", BALL, "--workers", "1")
OWN = (*BENCH, "--image", "scan.nii.gz", "--label", "truth.nii.gz")
SEGMENT = ("segment", "scan.nii.gz", "-o", "mask.nii.gz", "--segmenter", BALL)
CLICK = ("--click", "4,3,2,+")

BAD = {
    "a missing image": (
        ("segment", "nowhere.nii.gz", "-o", "mask.nii.gz", *CLICK),
        "nowhere.nii.gz: no such file",
    ),
    "a truncated image": (
        ("segment", "cut.nii.gz", "-o", "mask.nii.gz", *CLICK),
        "cut.nii.gz: cannot be read as NIfTI",
    ),
    "no image at all": (("segment", "text.nii", "-o", "mask.nii.gz", *CLICK), "text.nii: "),
    "a 4D image": (("segment", "4d.nii.gz", "-o", "mask.nii.gz", *CLICK), "4d.nii.gz: holds 2 volumes"),
    "a click outside": (
        (*SEGMENT, "--click", "8,0,0,+"),
        "click 8,0,0,+ is outside the volume: z, y, x must be below (8, 20, 24)",
    ),
    "a malformed click": (
        (*SEGMENT, "--click", "4,3,2"),
        "click '4,3,2' is not of the form z,y,x,+ or z,y,x,-",
    ),
    "no click": (SEGMENT, "Missing option '--click'"),
    "no place for the mask": (("segment", "scan.nii.gz", *CLICK), "Missing option '-o' / '--output'"),
    "a mask that is no NIfTI": (
        ("segment", "scan.nii.gz", *CLICK, "-o", "mask.png"),
        "-o mask.png: a mask is written as NIfTI, so its name ends in .nii or .nii.gz",
    ),
    "a mask in no folder": (
        ("segment", "scan.nii.gz", *CLICK, "-o", "no/mask.nii"),
        "-o no/mask.nii: there is no folder no",
    ),
    "a mask over the image": (
        ("segment", "scan.nii.gz", *CLICK, "-o", "./scan.nii.gz"),
        "-o scan.nii.gz: is the image itself",
    ),
    "an unknown segmenter for a mask": (
        ("segment", "scan.nii.gz", *CLICK, "-o", "mask.nii.gz", "--segmenter", "geodesik"),
        "unknown segmenter 'geodesik': did you mean geodesic?",
    ),
    "an unknown modality": (
        (*SEGMENT, *CLICK, "--modality", "MRI"),
        "unknown modality 'MRI': did you mean MR?",
    ),
    "a missing label": (
        (*BENCH, "--image", "scan.nii.gz", "--label", "nowhere.nii.gz"),
        "nowhere.nii.gz: no such file",
    ),
    "a truncated volume on the board": (
        (*BENCH, "--image", "cut.nii.gz", "--label", "truth.nii.gz"),
        "cut.nii.gz: cannot be read as NIfTI",
    ),
    "a 4D volume on the board": (
        (*BENCH, "--image", "4d.nii.gz", "--label", "truth.nii.gz"),
        "4d.nii.gz: holds 2 volumes",
    ),
    "a label of another shape": (
        (*BENCH, "--image", "scan.nii.gz", "--label", "short.nii.gz"),
        "short.nii.gz",
    ),
    "a label in another place": (
        (*BENCH, "--image", "scan.nii.gz", "--label", "moved.nii.gz"),
        "moved.nii.gz",
    ),
    "a structure that is not there": (
        (*OWN, "--structure", "3"),
        "structure '3' is not in the label; it holds 1",
    ),
    "an image without a label": ((*BENCH, "--image", "scan.nii.gz"), "--image scan.nii.gz needs --label"),
    "a label without an image": (
        (*BENCH, "--label", "truth.nii.gz"),
        "--label was given without --image: give both, or neither",
    ),
    "a label without a record": (
        ("serve", "--segmenter", "geodesic", "--label", "truth.nii.gz"),
        "--label was given without --record: nothing is recorded then; give both, or neither",
    ),
    "a folder without a record": (("serve", "--out", "records"), "--out was given without --record"),
    "a structure without an image": ((*BENCH, "--structure", "1"), "--structure was given without --image"),
    "an unknown segmenter": (
        ("bench", "quick", "--segmenter", "synthfm-nano"),
        "unknown segmenter 'synthfm-nano': did you mean synthfm3d-nano",
    ),
    "an unknown clicker": (
        (*BENCH, "--clicker", "ritm"),
        "unknown clicker 'ritm': did you mean ritm-3d-v1?",
    ),
    "a choice for a run that goes on": (
        ("bench", "quick", "--resume", "--segmenter", BALL),
        "--segmenter was given with --resume",
    ),
    "a run that is not there": (("bench", "quick", "--resume"), "--resume: no run of quick under"),
    "a folder that holds no run": (("verify", "."), "run.json: cannot be read (No such file or directory)"),
    "data sets for a suite of none": (("bench", "quick", "--data", "."), "suite quick plays no data set"),
    "an unknown layout": (
        ("datasets", "check", ".", "--layout", "amoss"),
        "unknown layout 'amoss': did you mean amos",
    ),
    "a folder of another layout": (
        ("datasets", "check", ".", "--layout", "msd"),
        ".: holds no image with a label; layout 'msd' expects dataset.json, imagesTr/lung_001.nii.gz",
    ),
    "an unknown suite": (("bench", "quikc"), "unknown suite 'quikc': did you mean quick?"),
    "no suite": (("bench",), "Missing argument 'SUITE'. See: synthfm bench --help"),
    "no worker": ((*BENCH, "--workers", "0"), "Invalid value for '--workers'"),
    "a folder in use": ((*OWN, "--out", "."), "--out .: already holds files"),
    "an unknown command": (("benhc",), "No such command 'benhc'"),
    "an unknown option": (("bench", "quick", "--imag", "x"), "No such option: --imag"),
    "an unknown list": (("list", "modells"), "unknown kind of list 'modells'"),
    "the former list of models": (("list", "models"), "`synthfm list segmenters`"),
    "an unknown recipe": (("train", "nosuch"), "nosuch"),
    "nothing to generate": (("generate",), "name a folder for the volumes, or --preview FILE"),
    "a malformed shape": (("generate", "new", "--shape", "64"), "--shape 64: expected three voxel counts z,y,x"),
    "an unknown generator recipe": (
        ("generate", "new", "--recipe", "anny"),
        "unknown recipe 'anny': did you mean any?",
    ),
    "a folder of other things to generate into": (("generate", "."), ". holds other files; name a new folder"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input_ends_with_2_and_one_line_and_writes_nothing(place, monkeypatch, capsys, arguments, message):
    before = {path: path.read_bytes() for path in place.rglob("*")}
    assert synthfm(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("synthfm: ")
    assert message in line
    assert {path: path.read_bytes() for path in place.rglob("*")} == before


def test_a_mask_has_the_grid_of_its_file(place, monkeypatch, capsys):
    assert synthfm(monkeypatch, *SEGMENT, "--click", "2,5,4,+") == 0
    mask, scan = nib.load("mask.nii.gz"), nib.load("scan.nii.gz")
    np.testing.assert_array_equal(mask.affine, scan.affine)
    # The click names the voxel as it is stored; the toy paints a ball of radius 4 around it.
    x, y, z = np.indices(scan.shape)
    ball = (x - 4) ** 2 + (y - 5) ** 2 + (z - 2) ** 2 <= 16
    np.testing.assert_array_equal(np.asarray(mask.dataobj), ball)
    out, err = capsys.readouterr()
    assert f"mask.nii.gz: {ball.sum()} voxels, {ball.sum() * 9 / 1000:.2f} ml, from 1 click" in out
    assert "next: " in out
    assert err == ""


def test_clicks_act_in_the_order_given(place, monkeypatch):
    clicks = ("--click", "2,5,4,+", "--click", "2,5,9,-")
    assert synthfm(monkeypatch, *SEGMENT, *clicks) == 0
    mask = np.asarray(nib.load("mask.nii.gz").dataobj)
    assert mask[4, 5, 2] == 1
    assert mask[5, 5, 2] == 0  # within 4 voxels of the second click


def test_an_empty_mask_is_reported(place, monkeypatch, capsys):
    assert synthfm(monkeypatch, *SEGMENT, "--click", "2,5,4,-") == 0
    assert "the mask is empty: add a positive --click" in capsys.readouterr().out


def test_an_own_volume_gets_a_board(place, monkeypatch, capsys):
    assert synthfm(monkeypatch, *OWN, "--structure", "4", "--out", "mine") == 0
    out, err = capsys.readouterr()
    assert "own volume: scan (1 case)" in out
    assert "synthetic" not in out.partition("own volume")[0]
    assert "of toys:Ball: synthfm-mm-v1 leads random by" in " ".join(out.split())
    assert "report: mine/report.html" in out
    assert "run: mine" in out
    assert "next: synthfm segment" in out
    assert "synthfm:" not in err
    with open("mine/leaderboard.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["data"], row["clicker"], row["clicker_kind"], row["episodes"]) for row in rows] == [
        ("own volume", "random", "blind", "1"),
        ("own volume", "synthfm-mm-v1", "oracle", "1"),
    ]


def test_an_own_suite_is_played_by_its_path(place, monkeypatch, capsys):
    Path("mine.toml").write_text(
        'name = "mine"\nsegmenters = ["toys:Ball"]\nclickers = ["random"]\nclicks = 2\n'
        '[[data]]\nkind = "synthetic"\nname = "tiny"\nshape = [4, 32, 32]\ncases = 1\n'
    )
    assert synthfm(monkeypatch, "bench", "mine.toml", "--workers", "1") == 0
    assert "tiny: seed-" in capsys.readouterr().out
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("mine-")


def test_an_own_segmenter_is_found_in_the_current_folder(place, monkeypatch):
    Path("of_my_own.py").write_text("from toys import Ball\n\n\nclass Mine(Ball):\n    pass\n")
    own = [*OWN, "--segmenter", "of_my_own:Mine", "--structure", "1", "--out", "mine"]
    assert synthfm(monkeypatch, *own) == 0
    assert "of_my_own:Mine" in Path("mine/leaderboard.md").read_text(encoding="utf-8")


def test_generated_volumes_are_played_by_the_printed_command(place, monkeypatch, capsys):
    small = ("--count", "2", "--shape", "4,32,32", "--recipe", "ct", "--workers", "1")
    assert synthfm(monkeypatch, "generate", "new", *small) == 0
    written, following = capsys.readouterr().out.splitlines()
    assert written.startswith("new: 2 volumes written (")
    arguments = following.removeprefix("next: synthfm ").split()
    assert synthfm(monkeypatch, *arguments, "--segmenter", BALL, "--workers", "1", "--out", "mine") == 0
    assert synthfm(monkeypatch, "generate", "new", *small) == 0
    assert "new: 0 volumes written, 2 were there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("segmenters", ["synthfm3d-nano", "geodesic", "random-walker", "bridge"]),
        ("clickers", ["random", "ritm-3d-v1"]),
        ("protocols", ["ritm-3d-v1"]),
        ("suites", ["quick"]),
        ("layouts", ["folder", "amos", "msd"]),
        ("envs", list(ENVS)),
    ],
)
def test_lists_name_and_describe(monkeypatch, capsys, kind, names):
    assert synthfm(monkeypatch, "list", kind) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(names) <= listed.keys()


def test_without_arguments_it_shows_the_help(monkeypatch, capsys):
    assert synthfm(monkeypatch) == 0
    out = capsys.readouterr().out
    assert "Usage: synthfm" in out
    assert "Segment one structure of a volume from a few clicks." in out


def test_an_unexpected_error_is_one_line_that_says_how_to_see_more(monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(runner, "run_suite", broken)
    assert synthfm(monkeypatch, *OWN) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "synthfm: ZeroDivisionError: division by zero; to see where, run it again with SYNTHFM_TRACEBACK=1 in front"
    )
    monkeypatch.setenv("SYNTHFM_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["synthfm", *OWN])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_help_loads_nothing_heavy():
    heavy = {"torch", "sam2", "scipy", "nibabel", "skimage"}
    code = f"import sys, synthfm_bench.cli; print({heavy} & set(sys.modules))"
    assert run_python("-c", code).stdout == "set()\n"


def test_ctrl_c_ends_with_130_and_says_what_was_kept(place):
    command = ["bench", "quick", "--image", "scan.nii.gz", "--label", "truth.nii.gz", "--structure", "1"]
    command += ["--segmenter", "toys:Waits", "--segmenter", BALL, "--workers", "2", "--out", "mine"]
    process = subprocess.Popen(
        [sys.executable, "-m", "synthfm_bench.cli", *command],
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests themselves run in a shell's background they ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.mkfifo("waiting")
    with open("waiting") as pipe:  # opens when the toy has begun to wait
        pipe.read(1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("synthfm: stopped: ")
    assert "of 4 episodes are kept in mine/steps.jsonl; go on with: synthfm bench quick --resume --out mine" in line


def test_a_stopped_run_goes_on_and_can_be_verified(place, monkeypatch, capsys):
    assert synthfm(monkeypatch, *OWN, "--structure", "4", "--out", "mine") == 0
    hash_line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("results hash"))
    lines = Path("mine/steps.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    Path("mine/steps.jsonl").write_text("".join(lines[:-3]))
    assert synthfm(monkeypatch, "bench", "quick", "--resume", "--out", "mine", "--workers", "1", TRUST) == 0
    assert hash_line in capsys.readouterr().out
    assert synthfm(monkeypatch, "verify", "mine", "--workers", "1", TRUST) == 0
    assert capsys.readouterr().out == "equal: 2 of 2 episodes came out the same (all)\n"
    text = Path("mine/steps.jsonl").read_text(encoding="utf-8")
    Path("mine/steps.jsonl").write_text(text.replace('"complied":true', '"complied":false', 1))
    assert synthfm(monkeypatch, "verify", "mine", "--workers", "1", TRUST) == 1
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "NOT equal: 1 of 2 episodes came out the same (all)"
    assert "they were changed since" in second
    assert third.endswith("step 1: complied False -> True; Dice differs by up to 0")


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], env=environment(), capture_output=True, text=True, check=True)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOYS), *sys.path])}
