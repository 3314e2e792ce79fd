"""Measures the memory of ``synthfm serve`` under a series of clients: claim, image, clicks, undo, release.

    python benchmarks/speed/serve.py --seconds 600

prints the server's resident memory after each round of 50 clients, and requests a second. One client in ten vanishes
without a word; its lease must expire. Traffic stays on loopback. Linux only, because memory is read from /proc.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
from nnInteractive.inference.remote.serialization import pack_array

SHAPE = (16, 48, 48)
CLIENTS = 50
VANISHES = 10  # one client of so many vanishes


def resident_mib(process: int) -> float:
    """Return the resident memory of a process in MiB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kib) / 1024


def one_client(http: httpx.Client, image: bytes, vanishes: bool) -> int:
    """Play one client, and return how many requests it sent."""
    claimed = http.post("/claim")
    if claimed.status_code == 503:  # taken by clients that vanished, until their leases expire
        time.sleep(1)
        return 1
    lease = {"X-Lease-Token": claimed.raise_for_status().json()["lease_token"]}
    http.post("/set_image", content=image, headers=lease).raise_for_status()
    http.post("/set_target_buffer", json={"shape": SHAPE, "dtype": "uint8"}, headers=lease).raise_for_status()
    for click in range(3):
        point = {"coordinates": [8, 24, 20 + 2 * click], "include_interaction": click != 1}
        http.post("/add_point_interaction", json=point, headers=lease).raise_for_status()
    http.post("/undo", json={}, headers=lease).raise_for_status()
    if not vanishes:
        http.post("/release", headers=lease).raise_for_status()
    return 8


def main() -> None:
    """Start a server, send clients for so many seconds, and print its memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--segmenter", default="geodesic")
    args = parser.parse_args()
    grid = np.ogrid[tuple(slice(n) for n in SHAPE)]
    ball = sum((axis - n / 2) ** 2 for axis, n in zip(grid, SHAPE, strict=True)) < 50
    image = pack_array(np.where(ball, 180, 20).astype(np.int16)[None])
    command = ["serve", "--segmenter", args.segmenter, "--port", "0", "--sessions", "8"]
    server = subprocess.Popen(
        [sys.executable, "-m", "synthfm_bench.cli", *command], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        began = time.monotonic()
        served = requests = 0
        with httpx.Client(base_url=address, timeout=120) as http:
            for _ in range(100):
                try:
                    http.get("/healthz")
                    break
                except httpx.HTTPError:
                    time.sleep(0.2)
            print(f"before the first client: {resident_mib(server.pid):.0f} MiB", flush=True)
            while time.monotonic() - began < args.seconds:
                requests += one_client(http, image, vanishes=served % VANISHES == VANISHES - 1)
                served += 1
                if served % CLIENTS == 0:
                    seconds = time.monotonic() - began
                    memory = resident_mib(server.pid)
                    rate = requests / seconds
                    print(f"{served} clients, {seconds:.0f} s: {memory:.0f} MiB, {rate:.1f} requests/s", flush=True)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
