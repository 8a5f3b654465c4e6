"""Statistics that evaluation, rollout, service and benchmarks share. Pure functions; randomness comes from a seed.

intervals          Clopper-Pearson, Wilson, Student, median bounds, nearest-rank quantile
bootstrap          BCa and percentile intervals over photographs
permutation_tests  sign flips of paired differences, exchanged answers
multiple_testing   Holm's adjustment
e_processes        sequential evidence for a rollout, valid at any time
sample_size        minimum detectable effect and photographs needed
correlation        Spearman's rank correlation
"""
