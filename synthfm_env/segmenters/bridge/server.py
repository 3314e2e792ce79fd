"""Serves a segmenter of this package to a process that uses the bridge's protocol."""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.prompts import Prompt
from synthfm_env.segmenters.base import Prediction, Segmenter, Session
from synthfm_env.segmenters.bridge.protocol import VERSION, decode, encode, map_array, read_prompt


class _ServedSession:
    """A session with the prompts that it got, so that it can follow a list of all prompts in force."""

    def __init__(self, session: Session, mask: NDArray[Any]) -> None:
        self.session = session
        self.mask = mask
        self.prompts: list[Any] = []

    def answer(self, prompts: list[Any]) -> Prediction:
        """Take back prompts that are no longer in force, add the new ones, and return the answer."""
        common = 0
        while common < min(len(self.prompts), len(prompts) - 1) and self.prompts[common] == prompts[common]:
            common += 1
        while len(self.prompts) > common:
            self.session.undo()
            self.prompts.pop()
        for fields in prompts[common:]:
            answer = _give(self.session, read_prompt(fields))
            self.prompts.append(fields)
        return answer


def _give(session: Session, prompt: Prompt) -> Prediction:
    if len(prompt.clicks) == 1 and prompt.box is None and prompt.mask is None:
        return session.add(prompt.clicks[0])
    return session.prompt(prompt.clicks, box=prompt.box, mask=prompt.mask)


class BridgeServer:
    """Answers the calls of one client.

    Args:
        segmenter: the one to serve.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._sessions: dict[int, _ServedSession] = {}

    def answer(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a call, an error included."""
        known = {"hello": self._hello, "start": self._start, "prompt": self._prompt, "close": self._close}
        try:
            if call["call"] not in known:
                raise InputError(f"unknown call {call['call']!r}: expected {', '.join(known)}")
            answer = known[call["call"]](call)
        except InputError as error:
            answer = {"error": "input", "message": str(error)}
        except Exception as error:  # an exception of the model is an answer to the client; the server goes on
            answer = {"error": "model", "message": f"{type(error).__name__}: {error}"}
        return {"id": call.get("id"), **answer}

    def _hello(self, call: Mapping[str, Any]) -> dict[str, Any]:
        capabilities = asdict(self._segmenter.capabilities)
        return {"version": VERSION, "name": self._segmenter.name, "capabilities": capabilities}

    def _start(self, call: Mapping[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        z, y, x = call["spacing"]
        session = self._segmenter.start(np.asarray(map_array(call["image"])), (z, y, x))
        self._sessions[call["session"]] = _ServedSession(session, map_array(call["mask"], "r+"))
        return {"seconds": [time.perf_counter() - began, 0.0]}

    def _prompt(self, call: Mapping[str, Any]) -> dict[str, Any]:
        served = self._sessions[call["session"]]
        answer = served.answer(call["prompts"])
        served.mask[...] = answer.mask
        return {"shape": list(answer.mask.shape), "seconds": list(answer.seconds)}

    def _close(self, call: Mapping[str, Any]) -> dict[str, Any]:
        served = self._sessions.pop(call["session"], None)
        if served is not None:
            served.session.close()
        return {}


def serve(segmenter: Segmenter, calls: IO[bytes], answers: IO[bytes]) -> None:
    """Answer one line of ``calls`` with one line of ``answers``, until the calls end."""
    server = BridgeServer(segmenter)
    for line in calls:
        answers.write(encode(server.answer(decode(line, "the client"))))
        answers.flush()


def claim_stdout() -> IO[bytes]:
    """Return the standard output for answers, and redirect all other printing to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers
