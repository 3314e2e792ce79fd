"""Step records made up for tests of the arithmetic."""

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
