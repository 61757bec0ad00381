"""What an operator of prod has outside the stack, made on emulated AWS: a zone, a certificate, a token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from deploy import prepare
from deploy.environments import CHECKOUT, DOMAIN, ROOTS, Environment

ZONE = DOMAIN.partition(".")[2]


def with_values(environment: Environment) -> Environment:
    """Add the values that an operator sets in the tfvars file of prod.

    `environment` must have the root's key. If the operator's file names a certificate and no zone, the
    rehearsal has no zone either.
    """
    if environment.emulated is None or ROOTS[environment.name] != "prod":
        return environment
    operators, zone = environment.variables, _zone(environment)
    certificate = operators["certificate_arn"] and _certificate(environment, zone)
    values = {
        **environment.emulated.values,
        "domain_name": DOMAIN,
        **({"certificate_arn": certificate} if certificate else {}),
        **({"zone_id": zone} if operators["zone_id"] or not certificate else {}),
        "alarm_email": "oncall@example.com",
        "allowed_cidrs": '["0.0.0.0/0"]',
    }
    _make_token(environment)
    return replace(environment, emulated=replace(environment.emulated, values=values))


def token(environment: Environment, variables: Mapping[str, str] = os.environ) -> str | None:
    """The token for the smoke test: the rehearsal's own, or the operator's S3API_TOKEN."""
    path = _token_file(environment)
    return path.read_text().strip() if path and path.exists() else variables.get("S3API_TOKEN")


def authority(environment: Environment) -> str:
    """The certificate, in PEM, of the CA that signed the certificate of the domain. Used as the root."""
    acm = environment.client("acm")
    found = acm.list_certificates(CertificateStatuses=["ISSUED"])["CertificateSummaryList"]
    [arn] = [entry["CertificateArn"] for entry in found if entry["DomainName"] == DOMAIN]
    return str(acm.get_certificate(CertificateArn=arn)["CertificateChain"])


def _zone(environment: Environment) -> str:
    """The id of the zone of the domain."""
    route53 = environment.client("route53")
    found = route53.list_hosted_zones_by_name(DNSName=ZONE)["HostedZones"]
    if not found:
        found = [route53.create_hosted_zone(Name=ZONE, CallerReference=ZONE)["HostedZone"]]
    return str(found[0]["Id"]).rpartition("/")[2]


def _certificate(environment: Environment, zone: str) -> str:
    """The ARN of an issued certificate for `DOMAIN`. ACM issues it when the zone has its record."""
    acm = environment.client("acm")
    found = acm.list_certificates(CertificateStatuses=["ISSUED"])["CertificateSummaryList"]
    if known := [str(entry["CertificateArn"]) for entry in found if entry["DomainName"] == DOMAIN]:
        return known[0]
    arn = str(acm.request_certificate(DomainName=DOMAIN, ValidationMethod="DNS")["CertificateArn"])
    [option] = acm.describe_certificate(CertificateArn=arn)["Certificate"]["DomainValidationOptions"]
    name, type_, value = (option["ResourceRecord"][key] for key in ("Name", "Type", "Value"))
    record = {"Name": name, "Type": type_, "TTL": 300, "ResourceRecords": [{"Value": value}]}
    environment.client("route53").change_resource_record_sets(
        HostedZoneId=zone, ChangeBatch={"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
    )
    acm.get_waiter("certificate_validated").wait(CertificateArn=arn, WaiterConfig={"Delay": 1})
    return arn


def _make_token(environment: Environment) -> None:
    """Make a token and store its entry for the tasks, unless it was done before."""
    path = _token_file(environment)
    ssm = environment.client("ssm")
    name = environment.secrets["API_TOKENS"]
    if path is None or (path.exists() and prepare.existing_parameters(environment, [name])):
        return
    command = [sys.executable, "-m", "s3api", "token", "new", "--name", "rehearsal"]
    made = subprocess.run(
        [*command, "--verbs", "list,read,write,delete"],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT / "services")},
        capture_output=True,
        text=True,
        check=True,
    )
    entry = json.loads(made.stderr.splitlines()[-1])
    ssm.put_parameter(Name=name, Type="SecureString", Value=json.dumps([entry]), Overwrite=True)
    path.touch(mode=0o600)
    path.write_text(made.stdout)


def _token_file(environment: Environment) -> Path | None:
    if environment.emulated is None or ROOTS[environment.name] != "prod":
        return None
    return environment.emulated.keys / "token"
