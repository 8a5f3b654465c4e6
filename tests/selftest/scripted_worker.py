"""A worker that only plays a script: `python scripted_worker.py SCRIPT STREAM BASE FOLDER`, without MLX.

SCRIPT is JSON: for a stream and step, the message to send, "hang", or "exit". Steps that aren't named are fine.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

FINE: dict[str, Any] = {"event": "outcome", "finding": "fine", "figures": {}, "cause": None}
FIGURES: dict[str, Any] = {
    "machine": {"gpu": False, "cpu_name": "a scripted CPU", "gpu_name": None},
    "load": {"fingerprint": "f" * 64, "layers": 2, "width": 8},
}


def main() -> None:
    script = json.loads(sys.argv[1])
    base = "configured" if "configured" in sys.argv[3] else "mini"
    for line in sys.stdin:
        step = json.loads(line)["step"]
        message = script.get(f"{base} {sys.argv[2]} {step}", {**FINE, "figures": FIGURES.get(step, {})})
        if message == "hang":
            threading.Event().wait()
        if message == "exit":
            sys.exit(7)
        print(json.dumps({"event": "progress", "text": "half done"}))
        print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
