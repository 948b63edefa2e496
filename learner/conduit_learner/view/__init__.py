"""An installation's log folded into statistics of bounded size, for the web page, ``top`` and ``doctor``."""
