"""From single calls of operators to the result: sums, labels, `Complexity`."""
