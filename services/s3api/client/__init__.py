"""The command line of the file API; it speaks HTTP and imports nothing from the service."""
