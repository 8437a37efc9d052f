"""The command line; each command's code is imported when the command is called."""
