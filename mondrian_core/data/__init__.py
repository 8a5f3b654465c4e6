"""From critiques to datasets: linking, splits, augmentation, building, sample workspaces."""
