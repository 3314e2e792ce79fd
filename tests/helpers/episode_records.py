"""Makes invented step records, for tests of their readers and of statistics."""

from typing import Any

from synthfm_bench.results.step_record import StepRecord


def episode(dices: list[float], *, budget: int, **fields: Any) -> list[StepRecord]:
    """Return the records of an episode that had these scores and then ended."""
    known = {
        "data_id": "synthetic",
        "case_id": "a",
        "structure": "liver",
        "model": "one",
        "clicker": "random",
    }
    names = known | {key: fields.pop(key) for key in known.keys() & fields.keys()}
    ends_by = fields.pop("outcome", "max_clicks")
    common: dict[str, Any] = {
        "run_id": "run",
        "episode_id": "/".join(names.values()),
        "env_id": "SynthFM/Volume-v0",
        "modality": "CT",
        "seed": 3,
        "clicker_seed": 4,
        "protocol": names["clicker"],
        "protocol_hash": "0" * 64,
        "tol_mm": 2.0,
        "max_clicks": budget,
        "oracle": False,
        "model_hash": None,
        "device": "cpu",
        "t_click_s": 0.01,
        "t_encode_s": 1.5,
        "t_predict_s": 0.5,
    }
    return [
        StepRecord(
            **({"nsd": dice} | names | common | fields),
            step=step,
            dice=dice,
            iou=dice / (2 - dice),
            outcome=ends_by if step == len(dices) else "running",
            terminated=step == len(dices) and len(dices) < budget,
            truncated=step == budget,
        )
        for step, dice in enumerate(dices, start=1)
    ]


def made_episode(dices: list[float], **fields: Any) -> list[StepRecord]:
    """Return the records of an episode of a synthetic-data suite, as a run writes them, with these scores."""
    known: dict[str, Any] = {
        "run_id": "run",
        "env_id": "SynthFM/Volume-v0",
        "data_id": "own",
        "case_id": "a",
        "structure": "1",
        "modality": "CT",
        "seed": 0,
        "clicker_seed": 0,
        "max_clicks": len(dices),
        "clicker": "random",
        "protocol": "random",
        "protocol_hash": "0" * 64,
        "oracle": False,
        "model": "geodesic",
        "model_hash": None,
        "tol_mm": 2.0,
        "device": "cpu",
        "t_predict_s": 0.1,
    } | fields
    known.setdefault("episode_id", "/".join(known[key] for key in ("data_id", "case_id", "model", "clicker")))
    last = len(dices)
    return [
        StepRecord(
            **known,
            step=step,
            outcome="max_clicks" if step == last else "running",
            dice=dice,
            iou=dice,
            nsd=dice,
            terminated=False,
            truncated=step == last,
        )
        for step, dice in enumerate(dices, start=1)
    ]
