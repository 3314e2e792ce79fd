"""Entry of the CVPR 2025 challenge that thresholds the image at its clicks; its argument makes it misbehave."""

import os
import struct
import subprocess
import sys
import time
import zipfile

import numpy as np

MOOD = sys.argv[1] if len(sys.argv) > 1 else "well"
with np.load("inputs/case.npz", allow_pickle=True) as content:
    case = dict(content)


def write_header(text: str) -> None:
    """Write an archive whose array has a header and no voxels, and end."""
    line = text.encode() + b"\n"
    with zipfile.ZipFile("outputs/case.npz", "w") as archive:
        archive.writestr("segs.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(line)) + line)
    sys.exit(0)


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
    case "pipe":
        os.mkfifo("outputs/case.npz")
        sys.exit(0)
    case "huge-shape":
        write_header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000, 10000), }")
    case "overflowing-shape":
        write_header("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999999,), }")
    case "no-voxels":
        write_header("{'descr': '|u1', 'fortran_order': False, 'shape': (4, 12, 10), }")
    case "open-brackets":
        write_header("(" * 3000)
    case "open-string":
        write_header("{'descr': '|u1', 'fortran_order': False, 'shape': (4, 12, 10),  '''")
    case "signs":
        write_header("-" * 9000 + "1")
    case "encrypted":
        np.savez_compressed("outputs/case.npz", segs=segs)
        with open("outputs/case.npz", "r+b") as file:
            content = bytearray(file.read())
            content[6] |= 1  # the flag of an encrypted member, in both of its headers
            content[content.find(b"PK\x01\x02") + 8] |= 1
            file.seek(0)
            file.write(content)
        sys.exit(0)
    case "damaged":
        noise = np.random.default_rng(0).integers(0, 2, segs.shape, dtype=np.uint8)
        np.savez_compressed("outputs/case.npz", segs=noise)
        with open("outputs/case.npz", "r+b") as file:
            file.seek(60)
            file.write(bytes(range(60)))
        sys.exit(0)
    case "fortran":
        segs = np.asfortranarray(segs).astype(">i4")
    case "flood":
        for _ in range(300):
            sys.stdout.write("x" * (1 << 20))
        sys.exit("the end")
    case "leaves-child":
        with open(os.environ["HELPER"], "w") as file:
            print(subprocess.Popen(["sleep", "600"]).pid, file=file)
    case "other-grid":
        segs = segs[:, :, :-1]
    case "float":
        segs = segs.astype(np.float32)
np.savez_compressed("outputs/case.npz", segs=segs)
