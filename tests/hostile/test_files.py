"""Tests atomic files and folders, links, and the lock of a folder."""

import contextlib
import multiprocessing
import os

import pytest

from synthfm_env.errors import InputError
from synthfm_env.files import atomic_write, remove_unfinished, write_text
from synthfm_env.folder_lock import LOCK_NAME, folder_lock
from synthfm_env.printable import printable


def test_an_error_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path):
    write_text(tmp_path / "a", "before")
    with contextlib.suppress(ZeroDivisionError), atomic_write(tmp_path / "a") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert (tmp_path / "a").read_text(encoding="utf-8") == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_is_replaced_and_its_target_stays(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "a").symlink_to(tmp_path / "victim")
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "victim").read_text(encoding="utf-8") == "precious"
    assert not (tmp_path / "a").is_symlink()


def test_a_partial_file_has_a_name_that_cannot_be_foreseen(tmp_path):
    names = set()
    for _ in range(2):
        with atomic_write(tmp_path / "a"):
            names |= {path.name for path in tmp_path.iterdir()} - {"a"}
    assert len(names) == 2


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    for name in (".synthfm-0123456789abcdef.part", ".synthfm-x.part", ".hidden", "a"):
        (tmp_path / name).touch()
    (tmp_path / ".synthfm-fedcba9876543210.part").mkdir()
    write_text(tmp_path / ".synthfm-fedcba9876543210.part" / "b", "half")
    remove_unfinished(tmp_path)
    remove_unfinished(tmp_path / "nowhere")
    assert {path.name for path in tmp_path.iterdir()} == {".synthfm-x.part", ".hidden", "a"}


def hold(folder, ready, leave):
    with folder_lock(folder):
        ready.set()
        leave.wait(60)


def test_a_lock_names_its_owner_and_ends_with_a_killed_process(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, leave))
    process.start()
    assert ready.wait(60)
    with pytest.raises(InputError, match=f"process {process.pid} on"), folder_lock(tmp_path):
        pass
    process.kill()
    process.join()
    assert (tmp_path / LOCK_NAME).exists()
    with folder_lock(tmp_path):
        pass
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_lock_is_not_made_through_a_link(tmp_path):
    (tmp_path / "victim").write_text("precious")
    os.symlink(tmp_path / "victim", tmp_path / LOCK_NAME)
    with pytest.raises(InputError, match="cannot be made"), folder_lock(tmp_path):
        pass
    assert (tmp_path / "victim").read_text(encoding="utf-8") == "precious"


class Mute:
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\n  b\tc", "a b c"),
        (os.fsdecode(b"bad\xff.nii"), "bad\\xff.nii"),
        ("\ud800", "\\ud800"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202eevil", "\\u202eevil"),
        ("x" * 600, "x" * 497 + "..."),
        (Mute(), "<Mute without text>"),
    ],
)
def test_any_text_can_be_shown(text, shown):
    assert printable(text) == shown
