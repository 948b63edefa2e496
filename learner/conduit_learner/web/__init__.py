"""The web page: a view of the log, served to a browser."""
