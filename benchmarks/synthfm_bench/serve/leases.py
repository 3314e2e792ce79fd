"""Leases sessions to clients, and ends leases that are idle or silent."""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from synthfm_bench.serve.viewer_session import ViewerSession


class FullError(Exception):
    """Every session is taken; answered with 503."""


class LeaseGoneError(Exception):
    """The lease expired, was released, or never was; answered with 410."""


@dataclass(slots=True, eq=False)
class _Lease:
    session: ViewerSession
    seen: float
    active: float


class Leases:
    """Sessions by their tokens.

    A lease ends if its client is silent for ``liveness_s`` (it crashed, or its network is gone), or does nothing but
    send heartbeats for ``idle_s`` (nobody sits in front of it).

    Args:
        new_session: makes the session of a lease.
        most: leases at a time.
        idle_s: seconds without an action.
        liveness_s: seconds without any request.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        new_session: Callable[[], ViewerSession],
        *,
        most: int,
        idle_s: float,
        liveness_s: float,
        clock: Callable[[], float],
    ) -> None:
        self.most = most
        self.idle_s = idle_s
        self.liveness_s = liveness_s
        self._new_session = new_session
        self._clock = clock
        self._leases: dict[str, _Lease] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._leases)

    def claim(self) -> str:
        """Open a session and return its token.

        Raises:
            FullError: all are taken.
        """
        now = self._clock()
        with self._lock:
            if len(self._leases) >= self.most:
                raise FullError
            token = secrets.token_hex(16)
            self._leases[token] = _Lease(self._new_session(), now, now)
            return token

    def act(self, token: str | None) -> ViewerSession:
        """Return a lease's session and note that its client did something.

        Raises:
            LeaseGoneError: there is no such lease.
        """
        with self._lock:
            lease = self._get(token)
            lease.seen = lease.active = self._clock()
            return lease.session

    def beat(self, token: str | None) -> float:
        """Note that a client is alive, and return the seconds left until it counts as idle."""
        with self._lock:
            lease = self._get(token)
            lease.seen = self._clock()
            return self._remaining(lease)

    def remaining(self, token: str | None) -> float:
        """Return the seconds left until a client counts as idle; changes nothing."""
        with self._lock:
            return self._remaining(self._get(token))

    def release(self, token: str | None) -> None:
        """End a lease; one that is gone already is no error."""
        with self._lock:
            lease = self._leases.pop(token or "", None)
        if lease is not None:
            lease.session.close()

    def sweep(self) -> int:
        """End the leases that expired, and return how many did."""
        now = self._clock()
        with self._lock:
            expired = [
                token
                for token, lease in self._leases.items()
                if now - lease.seen > self.liveness_s or now - lease.active > self.idle_s
            ]
            ended = [self._leases.pop(token) for token in expired]
        for lease in ended:
            lease.session.close()
        return len(ended)

    def close(self) -> None:
        """End all leases."""
        with self._lock:
            ended = list(self._leases.values())
            self._leases.clear()
        for lease in ended:
            lease.session.close()

    def _get(self, token: str | None) -> _Lease:
        lease = self._leases.get(token or "")
        if lease is None:
            raise LeaseGoneError
        return lease

    def _remaining(self, lease: _Lease) -> float:
        return max(0.0, self.idle_s - (self._clock() - lease.active))
