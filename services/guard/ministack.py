"""What MiniStack 1.5.33 accepts in S3's place and AWS refuses, corrected in its process."""

from __future__ import annotations

from typing import Any


def forms_are_checked() -> None:
    """MiniStack ignores the checksum of a form (its fields `x-amz-checksum-…`) and stores any bytes.

    S3 checks them: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html
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


def files_are_not_parameters(app: Any) -> None:
    """MiniStack parses each body of the type `application/x-www-form-urlencoded` as parameters of a call.

    A file of that type, which is what `curl --data-binary` and urllib send, stops it for a second a megabyte.
    This is for an emulator that serves S3 alone, whose calls have no parameters in their bodies.
    """
    from ministack.core import iam_actions

    of_query = iam_actions._action_from_query
    iam_actions._action_from_query = lambda query, _body, _content_type: of_query(query, b"", "")
    app._routing_params = lambda _method, _path, _headers, _body, query: query
