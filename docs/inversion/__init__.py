"""Count pairs of blocks, of which one has fewer FLOPs but takes longer, for docs/beyond-flops.md."""
