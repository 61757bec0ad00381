"""A file API over S3.

The flow of a request:

1. `observability` gives it an id and a start time; `auth` finds out who asks.
2. `routes` parses it, checks the file's name and what the caller may do.
3. One use case of `files` is called, with the store as its argument.
4. `s3_store` talks to S3 and answers with values, or raises one of the errors of `files`.
5. `routes` renders the value; `errors` turns an error into HTTP, once.
"""

__version__ = "0.1.0"
