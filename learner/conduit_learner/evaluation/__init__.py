"""Off-policy evaluation: estimate what another policy would have earned on the logged traffic."""
