"""The commands that count models. They import PyTorch when they run, and not for --help."""
