"""Work on past events: rebuild snapshots, verify and explain decisions, archive events, retry dead letters."""
