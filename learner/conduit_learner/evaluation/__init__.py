"""What another policy would have earned on the traffic that was logged: off-policy evaluation."""
