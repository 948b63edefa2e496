"""Looking back: rebuild snapshots from the log, prove and explain decisions, archive, dead letters."""
