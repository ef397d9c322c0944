"""The command line. Data goes to stdout, messages to stderr; exit codes are in `failures`."""
