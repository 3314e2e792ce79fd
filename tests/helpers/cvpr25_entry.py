"""Entry of the CVPR 2025 challenge that thresholds the image at its clicks; its argument makes it misbehave."""

import sys
import time

import numpy as np

MOOD = sys.argv[1] if len(sys.argv) > 1 else "well"
with np.load("inputs/case.npz", allow_pickle=True) as content:
    case = dict(content)

segs = np.zeros(case["imgs"].shape, np.uint8)
if "boxes" in case:
    (box,) = case["boxes"]
    z, y, x = (slice(box[f"{a}min"], box[f"{a}max"] + 1) for a in ("z_", "z_mid_y_", "z_mid_x_"))
    segs[z, y, x] = 1
if "clicks" in case:
    (clicks,) = case["clicks"]
    (order,) = case["clicks_order"]
    assert len(order) == len(clicks["fg"]) + len(clicks["bg"])
    segs |= case["prev_pred"]
    for zyx in clicks["fg"]:
        segs[case["imgs"] >= case["imgs"][tuple(zyx)]] = 1
    for zyx in clicks["bg"]:
        segs[tuple(zyx)] = 0

match MOOD:
    case "fails":
        sys.exit("CUDA out of memory")
    case "hangs":
        time.sleep(3600)
    case "silent":
        sys.exit(0)
    case "garbage":
        with open("outputs/case.npz", "wb") as file:
            file.write(b"PK\x03\x04 no zip at all")
        sys.exit(0)
    case "other-key":
        np.savez_compressed("outputs/case.npz", seg=segs)
        sys.exit(0)
    case "pickled":
        np.savez_compressed("outputs/case.npz", segs=np.array([{"a": 1}], dtype=object))
        sys.exit(0)
    case "other-grid":
        segs = segs[:, :, :-1]
    case "float":
        segs = segs.astype(np.float32)
np.savez_compressed("outputs/case.npz", segs=segs)
