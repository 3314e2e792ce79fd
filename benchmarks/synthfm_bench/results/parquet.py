"""Writes step records as a Parquet file, for pandas, polars, DuckDB or R."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_bench.results.step_record import StepRecord
from synthfm_env.files import atomic_write


def write_parquet(path: Path, episodes: Iterable[EpisodeResult]) -> None:
    """Write one row a record, with the fields of ``StepRecord`` in their types.

    Points, shapes and spacings are lists; parameters, which have no fixed fields, are JSON text.

    Raises:
        ImportError: the extra ``report`` is missing.
        OSError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    scalars = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), dict: pa.string()}

    def arrow(hint: Any) -> Any:
        (kind,) = [part for part in get_args(hint) or (hint,) if part is not type(None)] if _optional(hint) else (hint,)
        if get_origin(kind) is Literal:
            kind = type(get_args(kind)[0])
        origin = get_origin(kind) or kind
        return pa.list_(arrow(get_args(kind)[0])) if origin is tuple else scalars[origin]

    schema = pa.schema([(name, arrow(hint)) for name, hint in get_type_hints(StepRecord).items()])
    rows = [_flat(asdict(step)) for episode in episodes for step in episode.steps]
    with atomic_write(path) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), file, compression="zstd")


def _optional(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value, sort_keys=True) if isinstance(value, dict) else value for name, value in row.items()
    }
