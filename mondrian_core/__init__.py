"""Mondrian as a plain Python library: rubric, data, model, training, evaluation, registry, service. No Prefect."""
