"""Deploy, look after and destroy the stack of one environment: `python -m deploy COMMAND --env ENV`.

The same steps for a laptop and for AWS: `local` differs in that its AWS is started first, see `emulator`.
"""
