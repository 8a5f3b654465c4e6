"""Stands in for `mondrian_core.stage_process` where a test needs a stage that waits, fails or dies on demand.

`python stub_stage.py STAGE CONTEXT.json`; what it does is in the environment variable STUB_DOES.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    stage, run_folder = sys.argv[1], Path(sys.argv[2]).parent
    does = os.environ.get("STUB_DOES", "work")
    for done in range(1, 4):
        event = {"event": "StageProgressed", "stage": stage, "done": done, "total": 3, "detail": f"step {done}"}
        print(json.dumps(event), flush=True)
    print("a line that is no event", flush=True)
    if does == "refuse":
        error = {"problem": "There is no room.", "next_step": "Make some.", "exit_status": 2}
        (run_folder / f"{stage}.error.json").write_text(json.dumps(error))
        return 2
    if does == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "ignore SIGTERM":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if does in ("wait", "ignore SIGTERM"):
        (run_folder / "ready").write_text(str(os.getpid()))
        time.sleep(600)
    return 0


if __name__ == "__main__":
    sys.exit(main())
