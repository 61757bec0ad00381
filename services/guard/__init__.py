"""The guard in front of every emulator of AWS. It refuses requests that are not properly signed.

An emulator trusts every client that reaches its port, and every web page that a user visits can reach the
ports of loopback. The package uses only the standard library, because each emulator has its own Python
environment.
"""
