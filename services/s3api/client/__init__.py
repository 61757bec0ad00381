"""The command line of the file API. It uses the service over HTTP only."""
