"""Self-test: does MLX compute correctly and fast enough on this machine, on the GPU and on the CPU?

steps.py       the steps, and the value that a step gives      tolerances.py  how much rounding may change, by data type
checks/        what each step computes, in a worker            worker.py      the process that runs the steps of a base
worker_process.py  starts, limits and ends a worker            comparison.py  GPU with CPU, and with published figures
session.py     the whole self-test                             report.py      the JSON file, without private words
published.py   figures of known machines, and their page
"""
