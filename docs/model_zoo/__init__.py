"""Count all models of some model libraries, and write docs/zoo.md."""
