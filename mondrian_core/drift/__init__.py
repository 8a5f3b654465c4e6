"""The drift watch: do live answers still look like those of the champion's evaluation?

signals.py       what is watched, and what an alarm means
observations.py  the values of a job and of an evaluation
watch.py         the state of all signals, and how a request changes it
monitor.py       the watch of an advisor: reference, new jobs, stored state
report.py        a watch as values for the page, the command and the flow
photograph_distance.py  distance of a photograph to the advisor's own ones
"""

from mondrian_core.drift.monitor import EVALUATION, DriftMonitor, DriftWatch
from mondrian_core.drift.observations import DISTANCE_KEY
from mondrian_core.drift.photograph_distance import PortfolioDistances

__all__ = ["DISTANCE_KEY", "EVALUATION", "DriftMonitor", "DriftWatch", "PortfolioDistances"]
