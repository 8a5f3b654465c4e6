"""Set up and run the flows on a machine: the commands up, down and demo, and the Prefect server behind them."""
