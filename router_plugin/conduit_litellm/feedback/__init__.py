"""Records how calls went and how good their answers were, each with the decision that led to it."""
