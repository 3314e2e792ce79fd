import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from synthfm_bench.execution import ray_pool
from synthfm_bench.execution.ray_pool import RayPool
from synthfm_bench.execution.run import run_suite
from synthfm_bench.plan import make_plan
from synthfm_bench.results.run_directory import read_run
from synthfm_bench.suite import load_suite, with_choices
from synthfm_env.errors import InputError

# Three nodes on two cores start slowly, and must not be taken for dead. By default the workers have
# niceness 15, and hardly run beside other work.
PATIENCE = {
    "RAY_worker_niceness": "0",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_gcs_server_request_timeout_seconds": "600",
    "RAY_health_check_timeout_ms": "300000",
}
HERE = Path(__file__).parents[1] / "helpers"
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
SUITE = """
name = "small"
segmenters = ["toys:Ball", "toys:FailsAtThirdClick"]
clickers = ["random", "ritm-3d-v1"]
clicks = 4
[[data]]
kind = "synthetic"
name = "synthetic"
shape = [8, 32, 32]
cases = 6
"""


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SUITE)
    return path


@pytest.mark.slow
def test_a_node_killed_in_the_middle_costs_nothing(path, tmp_path):
    pytest.importorskip("ray", reason="comes with the extra `ray`")
    suite = load_suite(str(path))
    local = run_suite(suite, make_plan(suite), out=tmp_path / "local", workers=1, console=Console(quiet=True))
    places = os.pathsep.join([str(HERE), *sys.path])
    script = [sys.executable, str(HERE / "ray_cluster.py"), str(path), str(tmp_path / "ray")]
    env = {**os.environ, "PYTHONPATH": places, "NO_COLOR": "1", **PATIENCE}
    done = subprocess.run(script, env=env, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    lines = _COLOUR.sub("", done.stdout).splitlines()  # among Ray's own coloured output
    assert "killed" in lines
    assert lines[-1] == f"results hash {local.results_hash}"
    assert len(read_run(tmp_path / "ray").episodes) == 24


class Lost(Exception):
    """The actor, or what it returned, is gone."""


class FakeRay:
    """Stands in for Ray on this machine, with one core, and with calls of which some lose their machine."""

    def __init__(self, lost: set[int]) -> None:
        self.exceptions = SimpleNamespace(RayActorError=Lost, ObjectLostError=Lost, RayTaskError=ZeroDivisionError)
        self.lost, self.calls, self.alive = lost, 0, 0

    def cluster_resources(self):
        return {"CPU": 2.0}

    def remote(self, **options):
        assert options == {"num_cpus": 1, "max_restarts": 0}
        return lambda kind: SimpleNamespace(remote=lambda *arguments: self.actor(kind(*arguments)))

    def actor(self, host):
        self.alive += 1
        verbs = {name: SimpleNamespace(remote=partial(self.later, host, name)) for name in ("ready", "play")}
        return Actor(**verbs)

    def later(self, host, name, *arguments):
        return Reference(lambda: getattr(host, name)(*arguments), name)

    def wait(self, references, num_returns):
        return references[:1], references[1:]

    def get(self, reference):
        if reference.name == "play":
            self.calls += 1
            if self.calls in self.lost:
                self.alive -= 1
                raise Lost("the node died")
        return reference.call()

    def kill(self, actor):
        self.alive -= 1

    def shutdown(self):
        self.lost = set()


class Actor(SimpleNamespace):
    __hash__ = object.__hash__


class Reference:
    def __init__(self, call, name):
        self.call, self.name = call, name


def test_a_job_that_lost_its_machine_is_played_again(path, tmp_path, monkeypatch):
    suite = with_choices(load_suite(str(path)), cases=2)
    quiet = Console(quiet=True)
    local = run_suite(suite, make_plan(suite), out=tmp_path / "local", workers=1, console=quiet)
    fake = FakeRay(lost={2, 3, 5})
    monkeypatch.setattr(ray_pool, "connect", lambda: fake)
    far = run_suite(suite, make_plan(suite), out=tmp_path / "ray", workers=None, console=quiet, executor="ray")
    assert far.results_hash == local.results_hash
    assert fake.calls == 4 + 3  # four jobs, three of them lost once
    assert len(read_run(tmp_path / "ray").episodes) == 8


def test_a_job_that_loses_every_machine_ends_the_run(path, tmp_path, monkeypatch):
    suite = with_choices(load_suite(str(path)), cases=1)
    monkeypatch.setattr(ray_pool, "connect", lambda: FakeRay(lost=set(range(1, 100))))
    with pytest.raises(RuntimeError, match=f"lost its machine {ray_pool.MOST_LOSSES} times"):
        run_suite(suite, make_plan(suite), out=tmp_path / "run", workers=1, console=Console(quiet=True), executor="ray")


def test_without_ray_its_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'pip install "synthfm_env\[ray\]"'):
        RayPool(load_suite(str(path)), "run")


def test_another_executor_is_refused(path, tmp_path):
    suite = load_suite(str(path))
    with pytest.raises(InputError, match="unknown executor 'rey': did you mean ray"):
        run_suite(suite, make_plan(suite), out=tmp_path / "run", workers=1, console=Console(quiet=True), executor="rey")
    assert not (tmp_path / "run").exists()
