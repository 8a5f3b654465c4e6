"""What each step of the self-test computes; each check gets a loaded base and gives its outcome."""
