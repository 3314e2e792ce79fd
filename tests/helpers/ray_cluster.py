"""Runs a cluster of two nodes on this machine, kills one while a suite is played, and prints the results' hash.

``python ray_cluster.py SUITE.toml FOLDER``; a script of its own, because Ray belongs to a whole process.
"""

import sys
import threading
import time
from pathlib import Path

from ray.cluster_utils import Cluster
from rich.console import Console

from synthfm_bench.execution.run import run_suite
from synthfm_bench.plan import make_plan
from synthfm_bench.suite import load_suite


def kill_one(cluster: Cluster, steps: Path) -> None:
    """Kill a node without warning once the first episodes have been written."""
    while not (steps.is_file() and steps.stat().st_size):
        time.sleep(0.05)
    cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
    print("killed", flush=True)


def main() -> None:
    suite, folder = load_suite(sys.argv[1]), Path(sys.argv[2])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    killer = threading.Thread(target=kill_one, args=(cluster, folder / "steps.jsonl"), daemon=True)
    killer.start()
    console = Console(stderr=True, quiet=True)
    done = run_suite(suite, make_plan(suite), out=folder, workers=None, console=console, executor="ray")
    killer.join(60)
    cluster.shutdown()
    print(f"results hash {done.results_hash}", flush=True)


if __name__ == "__main__":
    main()
