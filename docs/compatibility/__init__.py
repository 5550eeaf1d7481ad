"""Run the test suite, the examples and a sweep under every supported PyTorch, pytest and Python, for a page."""
