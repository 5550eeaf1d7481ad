"""Count every model of the model libraries, and write docs/zoo.md."""
