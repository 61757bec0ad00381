"""Corrections of S3 in MiniStack 1.5.33, in its process, where it accepts what AWS refuses."""

from __future__ import annotations

from typing import Any


def check_forms() -> None:
    """Check the checksum of a form (its fields `x-amz-checksum-…`).

    MiniStack ignores it and stores any bytes.

    S3 checks it: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html
    """
    from ministack.services import s3

    post = s3._post_object

    def checked(bucket: str, body: bytes, headers: dict[str, str]) -> Any:
        file, checksums = b"", {}
        for name, _, _, value in s3._parse_multipart_form(headers.get("content-type", ""), body) or ():
            if name == "file":
                file = value
            elif name.lower().startswith("x-amz-checksum-"):
                checksums[name.lower()] = value.decode("latin-1")
        _, refusal = s3._resolve_object_checksums(file, checksums)
        return refusal or post(bucket, body, headers)

    s3._post_object = checked


def keep_files_out_of_parameters(app: Any) -> None:
    """Do not parse a file of the type `application/x-www-form-urlencoded` as parameters of a call.

    `curl --data-binary` and urllib send this type. MiniStack parses such a body and serves no other request
    meanwhile, for a second per megabyte. Use this only where S3 is the only service, as its calls have no
    parameters in their bodies.
    """
    from ministack.core import iam_actions

    of_query = iam_actions._action_from_query
    iam_actions._action_from_query = lambda query, _body, _content_type: of_query(query, b"", "")
    app._routing_params = lambda _method, _path, _headers, _body, query: query
