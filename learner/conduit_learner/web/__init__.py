"""The web page, which shows a view of the log in a browser."""
