"""Step records made up for tests of what reads them."""

from typing import Any

from synthfm_bench.results.step_record import StepRecord


def made_episode(dices: list[float], **fields: Any) -> list[StepRecord]:
    """Return the records of an episode that had these scores and used up its clicks."""
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
