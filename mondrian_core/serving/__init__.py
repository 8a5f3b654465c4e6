"""The critique service, over HTTP and from the command line, with the base model or a promoted adapter.

Two processes: the API (`http`, `jobs` and `critique`; no MLX) and the model process (`engine`), which answers one
question at a time. `server.run_server` starts both for `mondrian serve`; `batch_analyze.analyze_photographs` runs the
same strategies in one process for `mondrian analyze`. Imports go one way: http -> jobs -> critique -> engine.
"""
