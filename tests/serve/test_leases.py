import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
from synthfm_bench.serve.leases import FullError, LeaseGoneError, Leases


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Closable:
    closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def leases(clock):
    return Leases(Closable, most=2, idle_s=600, liveness_s=60, clock=clock)


def test_no_more_leases_than_allowed(leases):
    first = leases.claim()
    leases.claim()
    with pytest.raises(FullError):
        leases.claim()
    leases.release(first)
    assert leases.claim() != first


def test_a_silent_client_loses_its_lease_and_its_session_is_closed(leases, clock):
    token = leases.claim()
    session = leases.act(token)
    clock.now = 60.5
    assert leases.sweep() == 1
    assert session.closed == 1
    with pytest.raises(LeaseGoneError):
        leases.act(token)


def test_heartbeats_keep_a_client_until_it_is_idle_too_long(leases, clock):
    token = leases.claim()
    for minute in range(1, 20):
        clock.now = minute * 30
        assert leases.beat(token) == 600 - clock.now
        assert leases.sweep() == 0
    clock.now = 601
    assert leases.sweep() == 1


def test_an_action_begins_the_idle_time_anew(leases, clock):
    token = leases.claim()
    clock.now = 50
    leases.act(token)
    clock.now = 100
    assert leases.sweep() == 0
    assert leases.remaining(token) == 550


def test_asking_for_the_time_left_changes_nothing(leases, clock):
    token = leases.claim()
    clock.now = 40
    assert leases.remaining(token) == 560
    clock.now = 61
    assert leases.sweep() == 1


@pytest.mark.parametrize("token", [None, "", "made up"])
def test_a_token_that_nobody_was_given_is_refused(leases, token):
    for verb in (leases.act, leases.beat, leases.remaining):
        with pytest.raises(LeaseGoneError):
            verb(token)
    leases.release(token)
