"""A model hub on this machine: as much of its HTTP interface as huggingface_hub needs, with faults."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

REPOSITORY = "somebody/qwen3-vl-test"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"
_PARTS = re.compile(r"/(?:api/models/)?(?P<repository>[^/]+/[^/]+)(?:/(?P<verb>revision|tree|resolve)/(?P<rest>.+))?")


def checkpoint_files(shard_numbers: int = 50_000) -> dict[str, bytes]:
    """The files of a sharded checkpoint, with `shard_numbers` float32 in each shard; its weights fit no model."""
    shards = {name: save({f"w{k}": np.full(shard_numbers, k, np.float32)}) for k, name in enumerate(SHARDS)}
    texts: dict[str, Any] = {
        "config.json": {"model_type": "qwen3_vl"},
        "preprocessor_config.json": {"patch_size": 16},
        "tokenizer.json": {"model": {"vocab": {"a": 0}}},
        "tokenizer_config.json": {"eos_token": "<|im_end|>"},
        "generation_config.json": {"eos_token_id": [2]},
        "chat_template.json": {"chat_template": "{{ messages }}"},
        INDEX: {"weight_map": {f"w{k}": name for k, name in enumerate(SHARDS)}},
    }
    return {**shards, **{name: json.dumps(value).encode() for name, value in texts.items()}}


class HubServer:
    """The hub, with one repository.

    Attributes:
        files: name -> content.
        listed_sizes: name -> bytes that the hub's listing claims instead of the real ones.
        cut_off: names of files that the hub serves without their second half, as if that were all.
        cuts: name -> after how many bytes each of the next answers ends; each answer takes the first one.
        stalls: names whose answers stop in the middle until `go` is set.
        refusal: error code of every answer, such as "GatedRepo".
        gets: number of downloads by name.
        requests: number of requests of any kind.
        reached: set when a stalled answer has stopped.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.listed_sizes: dict[str, int] = {}
        self.cuts: dict[str, list[int]] = {}
        self.cut_off: set[str] = set()
        self.stalls: set[str] = set()
        self.refusal: str | None = None
        self.gets: Counter[str] = Counter()
        self.requests = 0
        self.closed = False
        self.reached, self.go = threading.Event(), threading.Event()
        handler = type("Handler", (_HubHandler,), {"hub": self})
        self._server = _QuietServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def forget(self) -> None:
        """Count from zero again."""
        self.gets.clear()
        self.requests = 0

    def close(self) -> None:
        """Stop; the port is closed then, and no open connection is answered."""
        self.closed = True
        self.go.set()
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """The environment of a process that uses this hub, with its caches below `home`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MONDRIAN_"))}
        return kept | {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home / "hf"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "MONDRIAN_CACHE": str(home / "cache"),
            "MONDRIAN_WORKSPACE": str(home / "workspace"),
            "MONDRIAN_ADAPTERS": str(home / "adapters"),
            "MONDRIAN_BASE_MODEL": REPOSITORY,
            "MONDRIAN_ACCELERATOR_LOCK": str(home / "accelerator.lock"),
        }


def snapshot_folder(home: Path) -> Path:
    """Where `environment` lets the hub's client keep the repository's files."""
    return home / "hf" / "hub" / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / COMMIT


def mondrian_command(*words: str) -> list[str]:
    """The command line of `mondrian WORDS` in a process of its own."""
    return [sys.executable, "-m", "mondrian_core.cli", *words]


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: clients are killed here."""


class _HubHandler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  (the name of the overridden method)
        """Nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        if self.hub.closed:
            self.close_connection = True
            return
        self.hub.requests += 1
        found = _PARTS.fullmatch(self.path.partition("?")[0])
        if found is None or found["repository"] != REPOSITORY:
            self._refuse(404, "RepoNotFound")
        elif found["verb"] == "resolve":
            self._send_file(found["rest"].partition("/")[2], body)
        elif self.hub.refusal == "RepoNotFound":
            self._refuse(404, "RepoNotFound")
        elif found["verb"] == "tree":
            self._send_json([{"type": "file", "path": name, **self._about(name)} for name in self.hub.files])
        else:
            files = [{"rfilename": name, **self._about(name)} for name in self.hub.files]
            self._send_json({"id": REPOSITORY, "sha": COMMIT, "siblings": files})

    def _about(self, name: str) -> dict[str, Any]:
        content = self.hub.files[name]
        size = self.hub.listed_sizes.get(name, len(content))
        about = {"size": size, "oid": _oid(content), "blobId": _oid(content)}
        if name.endswith(".safetensors"):
            about["lfs"] = {"sha256": _oid(content), "oid": _oid(content), "size": size, "pointerSize": 130}
        return about

    def _send_json(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_file(self, name: str, body: bool) -> None:
        if self.hub.refusal is not None:
            self._refuse(403, self.hub.refusal)
            return
        if name not in self.hub.files:
            self._refuse(404, "EntryNotFound")
            return
        whole = self.hub.files[name]
        content = whole[: len(whole) // 2] if name in self.hub.cut_off else whole
        first = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        self.send_response(206 if first else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{_oid(whole)}"')
        self.send_header("Content-Length", str(len(content) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if body:
            self.hub.gets[name] += 1
            self._send_content(name, content[first:])

    def _send_content(self, name: str, content: bytes) -> None:
        cuts = self.hub.cuts.get(name)
        end = cuts.pop(0) if cuts else len(content)
        middle = len(content) // 2 if name in self.hub.stalls else end
        try:
            self.wfile.write(content[: min(middle, end)])
            self.wfile.flush()
            if name in self.hub.stalls:
                self.hub.reached.set()
                self.hub.go.wait()
                self.wfile.write(content[middle:end])
        except OSError:
            return  # the client was killed
        self.close_connection = end < len(content)


def _oid(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
