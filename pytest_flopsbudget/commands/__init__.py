"""The command line: work with baselines and reports without running a test. Imports neither torch nor pytest."""
