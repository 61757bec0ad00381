"""The guard in front of every emulator: who may send it what.

An emulator trusts every client that reaches its port, and every web page that a user visits reaches the ports
of loopback. The package needs the standard library alone, since each emulator has an environment of its own.
"""
