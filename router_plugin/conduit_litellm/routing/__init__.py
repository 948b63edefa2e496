"""Which deployment serves: the selection, what is in force for it, and the snapshots it reads."""
