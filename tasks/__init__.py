"""One Prefect task per step: fetch by reference, call one function of the core, write, leave an artifact."""
