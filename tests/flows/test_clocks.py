"""A machine whose clock is an hour off asks the same server as others; processes under a shifted clock (faketime)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments import prefect_setup
from deployments.bootstrap import RunningPrefect
from mondrian_core.settings import Settings

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
FAKETIME = shutil.which("faketime")
END_DEAD_RUNS = """
import json, sys
from datetime import UTC, datetime
from deployments.dead_runs import end_dead_runs
from deployments.prefect_instance import PrefectInstance
from mondrian_core.settings import Settings

place = PrefectInstance(Settings(), int(sys.argv[1]))
print(json.dumps([datetime.now(UTC).isoformat(), end_dead_runs(place, "gone")]))
"""


@pytest.mark.skipif(FAKETIME is None, reason="faketime is not installed")
@pytest.mark.parametrize("shift", ["+1h", "-1h"])
def test_a_run_that_was_just_claimed_is_left_alone_whatever_the_clock_says(
    machine: RunningPrefect, settings: Settings, shift: str
) -> None:
    """By a clock that is an hour ahead, a worker claimed it long ago in vain; begun again, it would run twice."""
    from prefect.states import Pending, Scheduled

    with prefect_setup.prefect_client(machine.place) as client:
        deployment = client.read_deployment_by_name("rollback/manual").id
        far = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(weeks=99))
        run = client.create_flow_run_from_deployment(deployment, parameters={"advisor": "nobody"}, state=far)
        client.set_flow_run_state(run.id, Pending(), force=True)
        done = subprocess.run(
            [str(FAKETIME), "-f", shift, sys.executable, "-c", END_DEAD_RUNS, str(machine.place.port)],
            cwd=ROOT,
            env={**machine.place.environment(), "MONDRIAN_WORKSPACE": str(settings.root)},
            capture_output=True,
            text=True,
            check=True,
        )
        clock, ended = json.loads(done.stdout.splitlines()[-1])
        state = client.read_flow_run(run.id).state
        client.delete_flow_run(run.id)
    apart = datetime.fromisoformat(clock) - datetime.now(UTC)
    assert abs(apart.total_seconds()) > 1800, "the clocks were not apart"
    assert run.name not in ended and state is not None and state.is_pending()
