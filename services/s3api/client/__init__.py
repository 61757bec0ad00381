"""The command line of the file API. It uses HTTP and imports nothing from the service."""
