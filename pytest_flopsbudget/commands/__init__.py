"""The command line: what is done with baselines and reports without running a test. Needs neither torch nor pytest."""
