"""Find the shape, strides, dtype and device of operators' outputs without data, as they are on the CPU."""
