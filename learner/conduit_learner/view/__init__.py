"""What can be seen of an installation: its log folded into bounded numbers, for the page, ``top`` and ``doctor``."""
