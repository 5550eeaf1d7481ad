"""Count pairs of blocks for docs/beyond-flops.md. One block of a pair has fewer FLOPs, but takes longer."""
