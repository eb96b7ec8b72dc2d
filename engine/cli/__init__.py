"""The command line. Flags become an Engine; events become lines; errors become exit codes."""
