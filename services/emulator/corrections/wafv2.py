"""Corrections of WAF."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def keep_logging_configurations() -> None:
    """Keep the logging configuration of a web ACL. MiniStack does not have its three operations.

    They are recorded only: this emulated AWS inspects no request, so it logs none.
    https://docs.aws.amazon.com/waf/latest/APIReference/API_PutLoggingConfiguration.html
    """
    from ministack.core.responses import AccountRegionScopedDict
    from ministack.services import waf

    handle, state, restore = waf.handle_request, waf.get_state, waf.load_persisted_state
    kept: Any = AccountRegionScopedDict()

    def put(data: dict[str, Any]) -> Any:
        configuration = data["LoggingConfiguration"]
        _, refusal = waf._resolve_local_web_acl(configuration["ResourceArn"])
        if refusal:
            return refusal
        kept[configuration["ResourceArn"]] = configuration
        return waf.json_response({"LoggingConfiguration": configuration})

    def get(data: dict[str, Any]) -> Any:
        if found := kept.get(data["ResourceArn"]):
            return waf.json_response({"LoggingConfiguration": found})
        return waf._waf_err("WAFNonexistentItemException", "The web ACL has no logging configuration.")

    def delete(data: dict[str, Any]) -> Any:
        answer = get(data)
        kept.pop(data["ResourceArn"], None)
        return answer if answer[0] >= 400 else waf.json_response({})

    operations = {
        "PutLoggingConfiguration": put,
        "GetLoggingConfiguration": get,
        "DeleteLoggingConfiguration": delete,
    }

    async def extended(method: str, path: str, headers: Mapping[str, str], body: bytes, query: Any) -> Any:
        operation = operations.get(headers.get("x-amz-target", "").rpartition(".")[2])
        if operation is None:
            return await handle(method, path, headers, body, query)
        return operation(json.loads(body))

    waf.handle_request = extended
    waf.get_state = lambda: {**state(), "logging": kept}

    def restore_all(data: dict[str, Any]) -> None:
        kept.update(data.pop("logging", {}))
        restore(data)

    waf.load_persisted_state = restore_all
