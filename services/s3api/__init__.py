"""A file API over S3.

The flow of a request:

1. `observability` gives it an id and a start time.
2. `admission` checks the host and the URL, identifies the caller, and refuses what the caller may not do.
3. A view of `routes` parses the request, checks the file's name, and asks whether the caller may use it.
4. The view makes one call: to a use case of `files`, or to the store where nothing is to be decided.
5. `s3_store` talks to S3. It returns values, or raises one of the errors of `failures`.
6. The view renders the value as an answer. `errors` turns an error into an answer, for all views.

`pages` serves the web page and the documentation, which are clients of these routes.
"""

__version__ = "0.1.0"
