"""The commands that work with baselines and reports without running a test. They import neither torch nor pytest."""
