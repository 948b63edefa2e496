"""How a call went and how good its answer was, brought to the decision it is about."""
