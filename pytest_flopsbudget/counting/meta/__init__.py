"""Shape, strides, dtype and device of operators' outputs, found without data and equal to the results on the CPU."""
