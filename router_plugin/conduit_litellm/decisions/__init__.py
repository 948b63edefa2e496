"""What this process has decided, and what is still to be told of it."""
