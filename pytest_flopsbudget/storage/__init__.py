"""Everything that is written to disk: baselines, reports, and the record of a run from which both are written."""
