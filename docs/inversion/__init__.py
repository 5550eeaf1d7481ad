"""FLOPs alone mislead: blocks with fewer of them that take longer, measured for docs/beyond-flops.md."""
