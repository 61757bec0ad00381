"""Corrections of Certificate Manager."""

from __future__ import annotations

import json
from typing import Any

from emulator.certificates import Authority

_PENDING = "PENDING_VALIDATION"


def issue_after_validation(authority: Authority) -> None:
    """Issue a certificate once its validation record is in a zone of Route 53. Until then it is pending.

    MiniStack calls every certificate issued at once, and its certificates are no certificates. Source:
    https://docs.aws.amazon.com/acm/latest/userguide/dns-validation.html
    """
    from ministack.services import acm

    request, describe, get, delete = (
        acm._request_certificate,
        acm._describe_certificate,
        acm._get_certificate,
        acm._delete_certificate,
    )

    def pending(data: dict[str, Any]) -> Any:
        answer = request(data)
        if answer[0] < 300:
            _set_status(acm._certificates[json.loads(answer[2])["CertificateArn"]], _PENDING, _PENDING)
        return answer

    def describe_validated(data: dict[str, Any]) -> Any:
        _validate(authority, acm._get_local_certificate(data["CertificateArn"]))
        return describe(data)

    def get_issued(data: dict[str, Any]) -> Any:
        certificate = acm._get_local_certificate(data["CertificateArn"])
        _validate(authority, certificate)
        if certificate and certificate["Status"] == _PENDING:
            return acm.error_response_json("RequestInProgressException", "It is not issued yet.", 400)
        return get(data)

    def forget(data: dict[str, Any]) -> Any:
        answer = delete(data)
        if answer[0] < 300:
            authority.forget(data["CertificateArn"])
        return answer

    # MiniStack looks its functions up at each call, so there is no table to change.
    acm._request_certificate = pending
    acm._describe_certificate = describe_validated
    acm._get_certificate = get_issued
    acm._delete_certificate = forget


def _validate(authority: Authority, certificate: dict[str, Any] | None) -> None:
    """Issue a pending certificate if all its records exist."""
    if certificate is None or certificate["Status"] != _PENDING:
        return
    if all(_in_a_zone(option["ResourceRecord"]) for option in certificate["DomainValidationOptions"]):
        issued = authority.issue(certificate["CertificateArn"], certificate["SubjectAlternativeNames"])
        certificate |= {"_pem_body": issued.certificate, "_pem_chain": issued.chain}
        _set_status(certificate, "ISSUED", "SUCCESS")


def _set_status(certificate: dict[str, Any], status: str, of_records: str) -> None:
    certificate["Status"] = status
    for option in certificate["DomainValidationOptions"]:
        option["ValidationStatus"] = of_records


def _in_a_zone(wanted: dict[str, str]) -> bool:
    """Whether a zone of Route 53 has this record."""
    from ministack.services import route53

    return any(
        record["Name"].rstrip(".") == wanted["Name"].rstrip(".")
        and record["Type"] == wanted["Type"]
        and wanted["Value"].rstrip(".") in {value.rstrip(".") for value in record.get("ResourceRecords", ())}
        for records in route53._records.values()
        for record in records
    )
