"""Keep a measurement from changing the process around it."""
