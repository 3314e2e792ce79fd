import pytest

from synthfm_env.files import atomic_write, write_json, write_text


def test_the_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "table.csv"
    with atomic_write(target) as unfinished:
        assert unfinished.parent == tmp_path
        assert unfinished.suffix == ".csv"
        unfinished.write_text("new")
        assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert target.read_text() == "new"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(TypeError), atomic_write(target) as unfinished:
        unfinished.write_text("half") + "no number"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert target.read_text() == "old"


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    target = tmp_path / "table.csv"
    with atomic_write(target) as first, atomic_write(target) as second:
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first"  # the outer block ends last
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_a_missing_folder_raises_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "missing" / "table.csv", "text")


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    target = tmp_path / "run.json"
    write_json(target, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(target, {"a": float("nan")})
    assert target.read_text() == '{\n  "a": 1\n}\n'
