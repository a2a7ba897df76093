"""The commands.  Each imports the library inside its function: none waits for another's imports."""
