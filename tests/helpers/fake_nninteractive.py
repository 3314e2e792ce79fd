"""Serves a segmenter of this package by nnInteractive's protocol, and misbehaves on demand."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from nnInteractive.inference.remote.serialization import pack_array, unpack_array

from synthfm_env.errors import InputError
from synthfm_env.prompts import Box, Click
from synthfm_env.segmenters import Segmenter

CAPABILITIES = {
    "supported_interactions": {"points": True, "bbox2d": True, "bbox3d": False, "scribble": False, "lasso": False},
    "channel_mapping": {"points": [0, 1]},
    "num_interaction_channels": 2,
    "supports_initial_label": True,
    "supports_zero_shot_label_refinement": False,
    "preferred_scribble_thickness": [1, 1, 1],
    "interaction_decay": 1.0,
    "inference_session_version": "fake",
    "license": "none",
    "supports_undo": True,
}


class FakeServer:
    """Serves on a free port of the loopback device, one lease after another up to ``most``."""

    def __init__(self, segmenter: Segmenter, most: int = 2, **capabilities: Any) -> None:
        self.segmenter, self.most = segmenter, most
        self.capabilities = CAPABILITIES | capabilities
        self.leases: dict[str, dict[str, Any]] = {}
        self.mood = ""
        self.calls: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(json.dumps(server.capabilities if self.path == "/capabilities" else {}).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.calls.append(self.path)
                if server.mood == "hangs":
                    server.release.wait(30)
                if server.mood == "garbage" or server.mood.isdigit():
                    status = int(server.mood) if server.mood.isdigit() else 200
                    self._answer(b"\x00what?", status=status, meta=None if status != 200 else "{not json")
                    return
                lease = server.leases.get(self.headers.get("X-Lease-Token", ""))
                if self.path != "/claim" and lease is None:
                    self._answer(b'{"detail": "lease gone"}', status=410)
                    return
                try:
                    answer, meta = server.handle(self.path, lease, body, self.headers)
                except InputError as error:
                    self._answer(json.dumps({"detail": str(error)}).encode(), status=400)
                    return
                except OverflowError:
                    self._answer(b'{"detail": "full"}', status=503)
                    return
                self._answer(answer, meta=meta)

            def _answer(self, body: bytes, status: int = 200, meta: str | None = None) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if meta is not None:
                    self.send_header("X-Meta", meta)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.release = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self.release.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def handle(self, path: str, lease: dict[str, Any] | None, body: bytes, headers: Any) -> tuple[bytes, str | None]:
        if path == "/claim":
            if len(self.leases) >= self.most:
                raise OverflowError
            token = f"lease-{len(self.leases)}-{len(self.calls)}"
            self.leases[token] = {"can_undo": False}
            return json.dumps({"lease_token": token, "idle_timeout_seconds": 60.0}).encode(), None
        assert lease is not None
        meta = json.loads(headers.get("X-Meta", "{}"))
        match path:
            case "/release":
                self.leases.pop(headers["X-Lease-Token"])
            case "/set_image":
                image = unpack_array(body)
                lease["session"] = self.segmenter.start(image[0], tuple(meta["image_properties"]["spacing"]))
                lease["mask"] = np.zeros(image.shape[1:], bool)
                return json.dumps({"original_image_shape": image.shape}).encode(), None
            case "/reset_interactions":
                lease["session"].reset()
                lease["mask"][:] = False
                lease["waiting"] = []
            case "/undo":
                if not lease.pop("can_undo", False):
                    return b"", json.dumps({"ran_prediction": False, "bbox": None})
                return self._reply(lease, lease["session"].undo().mask)
            case "/add_point_interaction" | "/add_bbox_interaction" | "/add_initial_seg_interaction":
                return self._interact(path, lease, body, meta)
        return b"{}", None

    def _interact(self, path: str, lease: dict[str, Any], body: bytes, meta: dict[str, Any]) -> tuple[bytes, str]:
        """Collect interactions until one runs the prediction."""
        waiting = lease.setdefault("waiting", [])
        if path == "/add_initial_seg_interaction":
            waiting.append(("mask", unpack_array(body) > 0))
            run = meta["run_prediction"]
        else:
            fields = json.loads(body)
            run = fields["run_prediction"]
            if path == "/add_point_interaction":
                waiting.append(("click", Click(tuple(fields["coordinates"]), fields["include_interaction"])))
            else:
                start, stop = zip(*fields["bbox_coords"], strict=True)
                waiting.append(("box", Box(tuple(start), tuple(stop))))
        if not run:
            return b"", json.dumps({"ran_prediction": False, "bbox": None})
        clicks = [what for kind, what in waiting if kind == "click"]
        rest = {kind: what for kind, what in waiting if kind != "click"}
        waiting.clear()
        lease["can_undo"] = True
        return self._reply(lease, lease["session"].prompt(clicks, **rest).mask)

    def _reply(self, lease: dict[str, Any], mask: np.ndarray) -> tuple[bytes, str]:
        bounds = [[0, n] for n in mask.shape]
        if self.mood == "other-grid":
            mask, bounds = mask[:, :-1, :-2], [[0, n] for n in mask.shape]
        lease["mask"] = mask
        return pack_array(mask.astype(np.uint8)), json.dumps({"ran_prediction": True, "bbox": bounds})
