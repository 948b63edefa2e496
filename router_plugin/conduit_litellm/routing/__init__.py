"""Chooses the deployment that serves a request, from snapshots and routing settings."""
