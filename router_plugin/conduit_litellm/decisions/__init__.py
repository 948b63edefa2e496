"""Which deployments this process has chosen, and what it still has to log about them."""
