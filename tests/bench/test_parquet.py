import json
from dataclasses import asdict, fields

import pytest
from episode_records import episode

from synthfm_bench.results.episode_result import episodes_of
from synthfm_bench.results.parquet import write_parquet
from synthfm_bench.results.step_record import StepRecord

parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra report")


def test_the_copy_holds_every_field_of_every_record(tmp_path):
    records = [
        *episode([0.25, 1.0], budget=2, point_zyx=(1, 2, 3), spacing_zyx=(2.5, 1.0, 1.0), clicker_params={"k": [1]}),
        *episode([0.0], budget=2, case_id="b", outcome="timeout", error="too slow"),
        *episode([0.5], budget=1, case_id="c", prompt_zyxl=((1, 2, 3, 1), (0, 2, 4, 0)), start="box tight-v1"),
    ]
    write_parquet(tmp_path / "steps.parquet", episodes_of(records))
    rows = parquet.read_table(tmp_path / "steps.parquet").to_pylist()
    expected = [json.loads(json.dumps(asdict(record))) for record in records]
    for row in expected:
        for name in ("clicker_params", "model_params", "start_given"):
            row[name] = json.dumps(row[name])
    assert rows == expected
    assert [path.name for path in tmp_path.iterdir()] == ["steps.parquet"]


def test_columns_keep_their_types_where_nothing_was_recorded(tmp_path):
    write_parquet(tmp_path / "steps.parquet", episodes_of(episode([0.5], budget=1, t_click_s=None)))
    schema = parquet.read_schema(tmp_path / "steps.parquet")
    assert schema.names == [field.name for field in fields(StepRecord)]
    types = {name: str(schema.field(name).type) for name in ("point_zyx", "hd95_mm", "complied", "t_click_s", "step")}
    assert types == {
        "point_zyx": "list<element: int64>",
        "hd95_mm": "double",
        "complied": "bool",
        "t_click_s": "double",
        "step": "int64",
    }
