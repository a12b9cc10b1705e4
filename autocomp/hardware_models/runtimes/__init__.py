"""What a runtime does with a network on a chip. Read ``blocks`` first. It may import the model around it."""
