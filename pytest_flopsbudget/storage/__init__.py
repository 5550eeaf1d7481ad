"""Everything that is written to disk: baselines, reports, and the record of a run that they are written from."""
