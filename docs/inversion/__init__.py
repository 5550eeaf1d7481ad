"""Count blocks that have fewer FLOPs and take longer, for docs/beyond-flops.md."""
