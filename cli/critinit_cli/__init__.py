"""The command line ``critinit``: thin commands over the library, one module each."""
