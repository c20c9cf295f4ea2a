"""What is loaded: a deployment elsewhere, or the stack that runs here as containers or local processes."""
