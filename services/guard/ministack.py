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
