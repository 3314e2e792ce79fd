from pathlib import Path

import pytest

from synthfm_bench.suite import DatasetData, FileData, Suite, list_suites, load_suite, tolerance_of, with_choices
from synthfm_env.errors import InputError

GOOD = """
name = "mine"
segmenters = ["geodesic"]
clickers = ["random"]
clicks = 3
[[data]]
kind = "synthetic"
name = "small"
shape = [8, 32, 32]
cases = 2
"""


def complaint(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_suite(str(path))
    message = str(error.value)
    assert message.startswith(f"suite {path}: ")
    assert "\n" not in message
    return message.removeprefix(f"suite {path}: ")


def test_every_packaged_suite_loads_and_is_named_after_its_file():
    assert "quick" in list_suites()
    for name, description in list_suites().items():
        assert load_suite(name).name == name
        assert description


def test_an_own_file_is_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    suite = load_suite(str(path))
    assert (suite.clicks, suite.seed, suite.data[0].recipe) == (3, 0, "any")


def test_an_unknown_suite_names_the_near_match():
    with pytest.raises(InputError, match=r"unknown suite 'quik': did you mean quick\?"):
        load_suite("quik")


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"suite nowhere\.toml: cannot be read \(No such file or directory\)"):
        load_suite("nowhere.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clicks = 3", "click = 3", "top level: unknown key 'click': did you mean clicks"),
        ("cases = 2", "case = 2", "data[0]: unknown key 'case': did you mean cases"),
        ('name = "mine"', 'name = "../mine"', "name: string should match pattern"),
        ("cases = 2", "", "data[0].cases: field required"),
        ("clicks = 3", "clicks = 0", "clicks: input should be greater than or equal to 1, got '0'"),
        ("[8, 32, 32]", "[8, 32]", "data[0].shape: too few values"),
        ('"synthetic"', '"syntetic"', "data[0]: input tag 'syntetic' found using 'kind'"),
        ('["geodesic"]', "[]", "segmenters: tuple should have at least 1 item"),
        ('["geodesic"]', '["a", "b", "a"]', "segmenters: a is given twice"),
        ("clicks = 3", "clicks = ", "not valid TOML"),
    ],
)
def test_a_mistake_gives_one_line(tmp_path, old, new, message):
    assert old in GOOD
    assert message in complaint(tmp_path, GOOD.replace(old, new))


def test_two_groups_of_one_name_are_refused(tmp_path):
    group = GOOD[GOOD.index("[[data]]") :]
    assert "top level: small is given twice" in complaint(tmp_path, GOOD + group)


def labels(choices):
    return [choice.label for choice in choices]


def test_choices_replace_those_of_the_suite():
    suite = load_suite("quick")
    data = FileData(kind="files", name="own volume", image="a.nii", label="b.nii", structures=("3",))
    chosen = with_choices(suite, segmenters=("geodesic", "mine=x/best.safetensors"), seed=7, data=data, time_limit_s=5)
    assert labels(chosen.segmenters) == ["geodesic", "mine"]
    assert chosen.segmenters[1].use == "x/best.safetensors"
    assert (chosen.seed, chosen.data, chosen.time_limit_s) == (7, (data,), 5)
    assert (chosen.clickers, chosen.clicks) == (suite.clickers, suite.clicks)
    assert with_choices(suite) == suite


def test_fewer_cases_leave_smaller_groups_alone():
    suite = with_choices(load_suite("quick"), cases=3)
    assert suite.data[1].cases == 3
    assert with_choices(load_suite("quick"), cases=50).data[1].cases == 6


def test_a_choice_given_twice_is_refused():
    with pytest.raises(InputError, match="suite quick: clickers: random is given twice"):
        with_choices(load_suite("quick"), clickers=("random", "random"))


def test_a_folder_for_a_suite_without_data_sets_is_refused(tmp_path):
    with pytest.raises(InputError, match="suite quick plays no data set; try the suite `folder`"):
        with_choices(load_suite("quick"), root=tmp_path)


TABLES = GOOD.replace('["random"]', '["random", {use = "synthfm-v1", name = "3+0", params = {positives = 3}}]')


def test_a_table_names_a_choice_and_sets_its_parameters(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TABLES)
    suite = load_suite(str(path))
    assert labels(suite.clickers) == ["random", "3+0"]
    assert suite.clickers[1].params == {"positives": 3}
    assert Suite.model_validate_json(suite.model_dump_json()) == suite
    assert suite.model_dump(mode="json")["clickers"][0] == "random"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("use =", "uses =", "clickers[1]: unknown key 'uses': did you mean use"),
        ("params =", "param =", "clickers[1]: unknown key 'param': did you mean params"),
        ('"3+0"', '"3/0"', "clickers[1].name: string should match pattern"),
        ('"3+0"', '"random"', "clickers: random is given twice"),
    ],
)
def test_a_mistake_in_a_choice_is_named(tmp_path, old, new, message):
    assert message in complaint(tmp_path, TABLES.replace(old, new))


def test_a_group_may_have_a_tolerance_of_its_own():
    own = DatasetData(kind="dataset", name="a", layout="folder", tolerance_mm=0.5)
    suite = load_suite("quick")
    assert (tolerance_of(suite, own), tolerance_of(suite, suite.data[0])) == (0.5, 2.0)


def test_an_own_volume_is_not_described_as_the_suite(tmp_path: Path) -> None:
    own = FileData(kind="files", name="ct", image=tmp_path / "ct.nii.gz", label=tmp_path / "organs.nii.gz")
    assert with_choices(load_suite("quick"), data=own).description == "one volume of your own: ct.nii.gz"
