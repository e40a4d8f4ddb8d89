"""The command `lfnet`: parse, call one function, print."""
