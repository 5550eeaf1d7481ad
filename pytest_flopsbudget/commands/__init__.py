"""The command line: work with baselines and reports without running a test. It imports neither torch nor pytest."""
