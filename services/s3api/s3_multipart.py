"""The multipart uploads of one S3 bucket: opened, filled, listed, completed, aborted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from s3api.failures import FileError, StoreUnavailable, UploadNotFound
from s3api.file_store import Part, PartPlan
from s3api.s3_errors import NOT_S3, S3Errors
from s3api.s3_values import etag_of


class S3Multipart:
    """`api` and `transfer` are boto3 clients: one for small requests, one for bodies and slow answers."""

    def __init__(self, api: Any, transfer: Any, bucket: str, errors: S3Errors) -> None:
        self._api = api
        self._transfer = transfer
        self._bucket = bucket
        self._errors = errors

    def create(self, name: str, **fields: Any) -> Mapping[str, Any]:
        with self._errors("put_object", name):
            answer: Mapping[str, Any] = self._api.create_multipart_upload(
                Bucket=self._bucket, Key=name, **fields
            )
        return answer

    def put_part(self, plan: PartPlan, number: int, data: bytes) -> Part:
        with self._errors("put_object", plan.name):
            answer = self._transfer.upload_part(
                Bucket=self._bucket,
                Key=plan.name,
                UploadId=plan.upload_id,
                PartNumber=number,
                Body=BytesIO(data),  # shares the bytes; botocore would copy them to put the head before them
            )
        return Part(number=number, etag=etag_of(answer), size=len(data))

    def list_parts(self, plan: PartPlan, after: int = 0) -> Sequence[Part]:
        parts: list[Part] = []
        marker = after
        while True:
            with self._errors("list_parts", plan.name):
                answer = self._api.list_parts(
                    Bucket=self._bucket, Key=plan.name, UploadId=plan.upload_id, PartNumberMarker=marker
                )
            parts += [
                Part(number=part["PartNumber"], etag=etag_of(part), size=part["Size"])
                for part in answer.get("Parts", ())
            ]
            if not answer["IsTruncated"]:
                return parts
            if answer["NextPartNumberMarker"] <= marker:
                raise StoreUnavailable(NOT_S3)  # otherwise the same page would be requested without end
            marker = answer["NextPartNumberMarker"]

    def complete(self, plan: PartPlan, parts: Sequence[Part], condition: Mapping[str, str]) -> str:
        with self._errors("put_object", plan.name):
            answer = self._transfer.complete_multipart_upload(
                Bucket=self._bucket,
                Key=plan.name,
                UploadId=plan.upload_id,
                MultipartUpload={"Parts": [{"PartNumber": p.number, "ETag": f'"{p.etag}"'} for p in parts]},
                **condition,
            )
        return etag_of(answer)

    def abort(self, plan: PartPlan) -> bool:
        of = {"Bucket": self._bucket, "Key": plan.name, "UploadId": plan.upload_id}
        try:
            with self._errors("list_parts", plan.name):
                self._api.list_parts(**of, MaxParts=1)  # not every S3 reports that an abort found nothing
            with self._errors("abort_multipart_upload", plan.name):
                self._api.abort_multipart_upload(**of)
        except UploadNotFound:
            return False
        return True

    def abort_quietly(self, plan: PartPlan) -> None:
        # The caller reports the error that led here. The bucket's lifecycle rule is the last resort.
        for pause in (0, 0.5, 2):
            time.sleep(pause)
            try:
                self.abort(plan)
            except FileError:
                continue
            return
