"""Corrections of the Resource Groups Tagging API."""

from __future__ import annotations

import json
from typing import Any

from emulator.corrections.replacing import replace


def list_deleted_resources() -> None:
    """Keep deleted resources in the answers, as AWS does for hours.

    Sources: github.com/boto/boto3/issues/1704 and 3341, github.com/aws/aws-cli/issues/4173. MiniStack forgets
    them at once.
    """
    from ministack.services import tagging

    current = tagging._get_resources
    seen: dict[str, dict[str, Any]] = {}

    def with_deleted(data: dict[str, Any]) -> Any:
        status, headers, body = current(data)
        if status != 200 or data.get("ResourceARNList"):
            return status, headers, body
        answer = json.loads(body)
        seen.update((entry["ResourceARN"], entry) for entry in answer["ResourceTagMappingList"])
        answer["ResourceTagMappingList"] = [
            entry
            for arn, entry in seen.items()
            if tagging._matches_type_filters(arn, data.get("ResourceTypeFilters", []))
            and tagging._matches_tag_filters(entry["Tags"], data.get("TagFilters", []))
        ]
        return status, headers, json.dumps(answer).encode()

    replace(tagging, "_get_resources", with_deleted)
