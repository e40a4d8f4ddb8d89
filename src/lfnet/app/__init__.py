"""The web page: a server on the loopback address, two workers that can be killed, and one page."""
