"""Deploys, inspects and destroys the stack of one environment: `python -m deploy COMMAND --env ENV`.

The steps are the same on a laptop and on AWS. For the environment `local`, an emulated AWS is started first.
"""
