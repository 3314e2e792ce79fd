"""Tests entries of the CVPR 2025 challenge: their input file, and a typed outcome for each failure."""

import os
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from waiting import ended, soon

from synthfm_env.errors import InputError, SegmenterError, SegmenterTimeoutError
from synthfm_env.prompts import Box, Click
from synthfm_env.segmenters.cvpr25 import Cvpr25Container, box_fields, kill_commands
from synthfm_env.testing import check_segmenter

ENTRY = f"{shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__).parents[1] / 'helpers' / 'cvpr25_entry.py'))}"
MM = (2.0, 1.0, 1.0)
posix = pytest.mark.skipif(os.name != "posix", reason="needs named pipes and shell scripts")


def image() -> np.ndarray:
    picture = np.full((4, 12, 10), 50, np.uint8)
    picture[1:3, 3:8, 2:7] = 180
    return picture


@pytest.mark.slow
def test_an_entry_keeps_the_contract() -> None:
    check_segmenter(Cvpr25Container(ENTRY))


def test_clicks_reach_the_entry_in_zyx_with_their_order_and_the_mask_before() -> None:
    with Cvpr25Container(ENTRY).start(image(), MM) as session:
        first = session.add(Click((1, 4, 3))).mask
        assert np.array_equal(first, image() == 180)
        second = session.add(Click((2, 5, 6), positive=False)).mask
        assert not second[2, 5, 6]
        assert second.sum() == first.sum() - 1
        assert np.array_equal(session.undo().mask, first)


def test_a_box_is_written_with_both_ends_included() -> None:
    box = Box((1, 3, 2), (4, 8, 7))
    assert box_fields(box) == {
        "z_min": 1,
        "z_max": 3,
        "z_mid": 2,
        "z_mid_x_min": 2,
        "z_mid_y_min": 3,
        "z_mid_x_max": 6,
        "z_mid_y_max": 7,
    }
    with Cvpr25Container(ENTRY).start(image(), MM) as session:
        mask = session.prompt(box=box).mask
    expected = np.zeros(image().shape, bool)
    expected[1:4, 3:8, 2:7] = True
    assert np.array_equal(mask, expected)


def test_folders_can_be_named_in_the_command(tmp_path: Path) -> None:
    script = tmp_path / "predict.sh"
    script.write_text('cd "$(dirname "$1")" && "$3" "$4"\n')
    command = f"sh {script} {{inputs}} {{outputs}} {ENTRY}"
    with Cvpr25Container(command).start(image(), MM) as session:
        assert session.add(Click((1, 4, 3))).mask.any()


@pytest.mark.parametrize(
    ("mood", "message"),
    [
        ("fails", "exit code 1; it wrote: CUDA out of memory"),
        ("silent", "wrote no outputs/case.npz"),
        ("garbage", "holds no array 'segs'"),
        ("other-key", "holds no array 'segs'"),
        ("pickled", "segs of object"),
        ("huge-shape", "segs of uint8 .1000000, 1000000, 10000."),
        ("overflowing-shape", "segs of uint8 .99999"),
        ("no-voxels", "another length"),
        ("open-brackets", "holds no array 'segs'"),
        ("open-string", "holds no array 'segs'"),
        ("signs", "holds no array 'segs'"),
        ("encrypted", "holds no array 'segs'.*encrypted"),
        ("damaged", "holds no array 'segs'"),
        pytest.param("pipe", "no regular file", marks=posix),
        ("other-grid", r"segs of uint8 \(4, 12, 9\)"),
        ("float", "segs of float32"),
    ],
)
def test_an_entry_that_fails_is_an_error_and_not_an_older_answer(mood: str, message: str) -> None:
    with Cvpr25Container(f"{ENTRY} {mood}").start(image(), MM) as session:
        with pytest.raises(SegmenterError, match=message):
            session.add(Click((1, 4, 3)))
        assert session.clicks == ()


def test_an_entry_that_hangs_is_ended() -> None:
    with (
        Cvpr25Container(f"{ENTRY} hangs", time_limit_s=1.5).start(image(), MM) as session,
        pytest.raises(SegmenterTimeoutError, match=r"longer than 1.5 s"),
    ):
        session.add(Click((1, 4, 3)))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_entry_that_ends_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELPER", str(tmp_path / "id"))
    with Cvpr25Container(f"{ENTRY} leaves-child").start(image(), MM) as session:
        session.add(Click((1, 4, 3)))
    child = int((tmp_path / "id").read_text())
    assert soon(lambda: ended(child))


def test_a_flood_of_output_takes_neither_disk_nor_memory() -> None:
    with (
        Cvpr25Container(f"{ENTRY} flood").start(image(), MM) as session,
        pytest.raises(SegmenterError, match=r"it wrote: x+the end$") as failed,
    ):
        session.add(Click((1, 4, 3)))
    assert len(str(failed.value)) < 1000


def test_the_order_and_bytes_of_an_array_do_not_matter() -> None:
    with Cvpr25Container(f"{ENTRY} fortran").start(image(), MM) as session:
        assert np.array_equal(session.add(Click((1, 4, 3))).mask, image() == 180)


@pytest.mark.parametrize(
    ("words", "programs"),
    [
        (["docker", "run", "--name", "{name}", "x"], ["docker"]),
        (["/opt/bin/podman", "run", "--name={name}", "x"], ["/opt/bin/podman"]),
        (["sh", "-c", "cd /x && docker run --name {name} x"], ["docker"]),
        (["sudo", "docker", "run", "--name", "{name}", "x"], ["docker"]),
        (["sh", "-c", "docker run --name {name} it's"], ["docker"]),
        (["docker", "run", "x"], []),
    ],
)
def test_the_program_that_started_a_container_ends_it(words: list[str], programs: list[str]) -> None:
    assert kill_commands(words, "synthfm-1") == [[program, "kill", "synthfm-1"] for program in programs]


@posix
def test_a_container_that_takes_too_long_is_killed_even_from_a_script_and_a_hanging_kill_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\n[ "$1" = kill ] && echo "$2" > "$KILLED"\nexec sleep 600\n')
    docker.chmod(0o755)
    monkeypatch.setenv("KILLED", str(tmp_path / "killed"))
    monkeypatch.setattr("synthfm_env.segmenters.cvpr25._KILL_S", 1.0)
    command = f"sh -c '{docker} run --name {{name}} model'"
    with (
        Cvpr25Container(command, time_limit_s=0.5).start(image(), MM) as session,
        pytest.raises(SegmenterTimeoutError, match="took longer"),
    ):
        session.add(Click((1, 4, 3)))
    assert (tmp_path / "killed").read_text().startswith("synthfm-")


@pytest.mark.parametrize("command", ["", "   ", "'sh predict.sh"])
def test_a_command_without_words_is_refused(command: str) -> None:
    with pytest.raises(InputError, match="cvpr25:"):
        Cvpr25Container(command)


def test_a_program_that_there_is_not_is_refused_at_the_first_click() -> None:
    with (
        Cvpr25Container("/no/such/docker run x").start(image(), MM) as session,
        pytest.raises(InputError, match="cannot be started"),
    ):
        session.add(Click((1, 4, 3)))
