"""The parts of the emulated AWS that only prod uses, each tested through a client."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from cryptography import x509

from deploy import leftovers, rehearsal, terraform_variables
from deploy.emulated_aws import root_key
from deploy.environments import CHECKOUT, Environment
from emulator.balancer import Listener, Redirect, configuration
from emulator.certificates import Authority
from local_servers import free_port
from support.servers import need, until

pytestmark = pytest.mark.timeout(300)

ZONE = "issued.example.org"


@pytest.fixture
def zone(aws: Environment) -> str:
    """The id of a zone of Route 53."""
    created = aws.client("route53").create_hosted_zone(Name=ZONE, CallerReference=ZONE)
    return str(created["HostedZone"]["Id"])


def test_a_certificate_is_issued_once_its_record_exists(aws: Environment, zone: str) -> None:
    """It is pending until Route 53 has its validation record, and then it is a real certificate.

    Source: docs.aws.amazon.com/acm/latest/userguide/dns-validation.html
    """
    acm, name = aws.client("acm"), f"files.{ZONE}"
    arn = acm.request_certificate(DomainName=name, ValidationMethod="DNS")["CertificateArn"]
    described = acm.describe_certificate(CertificateArn=arn)["Certificate"]

    with pytest.raises(ClientError, match="RequestInProgressException"):
        acm.get_certificate(CertificateArn=arn)
    [option] = described["DomainValidationOptions"]
    wanted = option["ResourceRecord"]
    record = {
        "Name": wanted["Name"],
        "Type": wanted["Type"],
        "TTL": 300,
        "ResourceRecords": [{"Value": wanted["Value"]}],
    }
    aws.client("route53").change_resource_record_sets(
        HostedZoneId=zone, ChangeBatch={"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
    )
    issued = acm.describe_certificate(CertificateArn=arn)["Certificate"]
    found = acm.get_certificate(CertificateArn=arn)
    there = leftovers.confirm(aws, "eu-west-1", arn)
    acm.delete_certificate(CertificateArn=arn)

    certificate = x509.load_pem_x509_certificate(found["Certificate"].encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert (described["Status"], option["ValidationStatus"]) == ("PENDING_VALIDATION", "PENDING_VALIDATION")
    assert issued["Status"] == "ISSUED"
    assert names.get_values_for_type(x509.DNSName) == [name]
    assert (there, leftovers.confirm(aws, "eu-west-1", arn)) == (True, False)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(found["CertificateChain"].encode()))


def test_scaling_targets_and_policies_are_recorded(aws: Environment) -> None:
    """They are described as they were registered, and a policy goes with its target."""
    scaling = aws.client("application-autoscaling")
    target = {
        "ServiceNamespace": "ecs",
        "ResourceId": "service/x/y",
        "ScalableDimension": "ecs:service:DesiredCount",
    }
    tracking = {
        "TargetValue": 60.0,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"},
    }
    with pytest.raises(ClientError, match="ObjectNotFoundException"):
        scaling.put_scaling_policy(PolicyName="cpu", PolicyType="TargetTrackingScaling", **target)
    arn = scaling.register_scalable_target(MinCapacity=2, MaxCapacity=6, Tags={"a": "b"}, **target)[
        "ScalableTargetARN"
    ]
    scaling.put_scaling_policy(
        PolicyName="cpu",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=tracking,
        **target,
    )
    [found] = scaling.describe_scalable_targets(ServiceNamespace="ecs", ResourceIds=["service/x/y"])[
        "ScalableTargets"
    ]
    [policy] = scaling.describe_scaling_policies(ServiceNamespace="ecs", ResourceId="service/x/y")[
        "ScalingPolicies"
    ]
    tags = scaling.list_tags_for_resource(ResourceARN=arn)["Tags"]
    scaling.deregister_scalable_target(**target)

    assert (found["MinCapacity"], found["MaxCapacity"], found["ScalableTargetARN"]) == (2, 6, arn)
    assert policy["TargetTrackingScalingPolicyConfiguration"] == tracking
    assert tags == {"a": "b"}
    assert scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"] == []


def test_a_web_acl_keeps_its_logging_configuration(aws: Environment) -> None:
    """It is returned as it was put, until it is deleted."""
    waf = aws.client("wafv2")
    metrics = {"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": "m"}
    acl = waf.create_web_acl(
        Name="logged", Scope="REGIONAL", DefaultAction={"Allow": {}}, VisibilityConfig=metrics
    )["Summary"]
    group = "arn:aws:logs:eu-west-1:000000000000:log-group:aws-waf-logs-x"
    given = {"ResourceArn": acl["ARN"], "LogDestinationConfigs": [group]}

    waf.put_logging_configuration(LoggingConfiguration=given)
    found = waf.get_logging_configuration(ResourceArn=acl["ARN"])["LoggingConfiguration"]
    waf.delete_logging_configuration(ResourceArn=acl["ARN"])

    assert found == given
    with pytest.raises(ClientError, match="WAFNonexistentItemException"):
        waf.get_logging_configuration(ResourceArn=acl["ARN"])
    assert leftovers.confirm(aws, "eu-west-1", acl["ARN"])
    waf.delete_web_acl(Name="logged", Scope="REGIONAL", Id=acl["Id"], LockToken=acl["LockToken"])
    assert leftovers.confirm(aws, "eu-west-1", acl["ARN"]) is False


@pytest.fixture
def balancer(aws: Environment) -> Iterator[str]:
    """The ARN of a load balancer."""
    ec2, elb = aws.client("ec2"), aws.client("elbv2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    made = elb.create_load_balancer(Name="logged", Subnets=[subnet])["LoadBalancers"][0]
    yield made["LoadBalancerArn"]
    elb.delete_load_balancer(LoadBalancerArn=made["LoadBalancerArn"])
    ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=vpc)


def test_access_logs_need_the_policy_of_their_bucket(aws: Environment, balancer: str) -> None:
    """A bucket that does not let the service write is refused. Otherwise it gets the service's test file.

    Source: docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
    """
    s3, elb, bucket = aws.client("s3"), aws.client("elbv2"), f"{aws.bucket}-access-logs"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{bucket}/x/AWSLogs/000000000000/*",
    }
    attributes = [
        {"Key": "access_logs.s3.enabled", "Value": "true"},
        {"Key": "access_logs.s3.bucket", "Value": bucket},
        {"Key": "access_logs.s3.prefix", "Value": "x"},
    ]

    with pytest.raises(ClientError, match="InvalidConfigurationRequest"):
        elb.modify_load_balancer_attributes(LoadBalancerArn=balancer, Attributes=attributes)
    s3.put_bucket_policy(
        Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    elb.modify_load_balancer_attributes(LoadBalancerArn=balancer, Attributes=attributes)
    written = s3.list_objects_v2(Bucket=bucket)["Contents"]

    assert [entry["Key"] for entry in written] == ["x/AWSLogs/000000000000/ELBAccessLogTestFile"]


def test_a_target_group_that_does_not_exist_is_not_found(aws: Environment) -> None:
    """Its name is an error, as on AWS, and no empty list."""
    with pytest.raises(ClientError, match="TargetGroupNotFound"):
        aws.client("elbv2").describe_target_groups(Names=["nowhere"])


def test_a_flow_log_keeps_its_role_and_tags(aws: Environment) -> None:
    """It is described as it was created, with the interval of ten minutes that AWS chooses."""
    ec2, role = aws.client("ec2"), "arn:aws:iam::000000000000:role/flow-logs"
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    tags = [{"Key": "a", "Value": "b"}]
    made = ec2.create_flow_logs(
        ResourceIds=[vpc],
        ResourceType="VPC",
        TrafficType="ALL",
        LogGroupName="flow-logs",
        DeliverLogsPermissionArn=role,
        TagSpecifications=[{"ResourceType": "vpc-flow-log", "Tags": tags}],
    )["FlowLogIds"]
    [found] = ec2.describe_flow_logs(FlowLogIds=made)["FlowLogs"]
    ec2.delete_flow_logs(FlowLogIds=made)
    ec2.delete_vpc(VpcId=vpc)

    assert (found["DeliverLogsPermissionArn"], found["Tags"]) == (role, tags)
    assert found["MaxAggregationInterval"] == 600


def test_an_operators_certificate_is_rehearsed(
    aws: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator may have a certificate and no zone. The rehearsal gets one from the emulated ACM."""
    for file in ("variables.tf", terraform_variables.FILE):
        shutil.copy(CHECKOUT / "envs" / "prod" / file, tmp_path)
    arn = "arn:aws:acm:eu-west-1:123456789012:certificate/0"
    (tmp_path / "20.auto.tfvars").write_text(
        f'domain_name = "files.example.org"\ncertificate_arn = "{arn}"\n'
    )
    monkeypatch.setattr(Environment, "root", tmp_path)
    assert aws.emulated is not None
    prod = replace(aws, name="prod", emulated=replace(aws.emulated, keys=tmp_path))
    first, second = (rehearsal.with_values(prod).emulated for _ in range(2))
    assert first is not None

    certificate = aws.client("acm").describe_certificate(CertificateArn=first.values["certificate_arn"])
    assert first == second
    assert "zone_id" not in first.values
    assert certificate["Certificate"]["DomainName"] == first.values["domain_name"]
    assert certificate["Certificate"]["Status"] == "ISSUED"


def test_a_client_token_is_used_once(aws: Environment) -> None:
    """A repeated call gets the first answer, and a token with other parameters is refused.

    Source: "Ensuring idempotency in Amazon EC2 API requests" in the EC2 developer guide.
    """
    ec2 = aws.client("ec2")
    sent = {"ClientToken": "token", "LaunchTemplateData": {"InstanceType": "t3.micro"}}
    first = ec2.create_launch_template(LaunchTemplateName="once", **sent)["LaunchTemplate"]
    again = ec2.create_launch_template(LaunchTemplateName="once", **sent)["LaunchTemplate"]
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        ec2.create_launch_template(LaunchTemplateName="twice", **sent)
    with pytest.raises(ClientError, match="AlreadyExists"):
        ec2.create_launch_template(LaunchTemplateName="once", **{**sent, "ClientToken": "other"})
    ec2.delete_launch_template(LaunchTemplateName="once")

    assert again["LaunchTemplateId"] == first["LaunchTemplateId"]


def test_a_repeated_call_is_carried_out_once(aws: Environment) -> None:
    """All attempts of a call have one id. A call that failed is carried out again.

    Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html; boto3 and the SDK for
    Go send the id as `amz-sdk-invocation-id`.
    """
    assert aws.emulated
    url, keys = aws.emulated.url, Credentials(*root_key(aws.emulated).values())

    def create(call: str) -> requests.Response:
        fields = {
            "X-Amz-Target": "Logs_20140328.CreateLogGroup",
            "Content-Type": "application/x-amz-json-1.1",
            "amz-sdk-invocation-id": call,
        }
        request = AWSRequest("POST", url, fields, json.dumps({"logGroupName": "once"}))
        SigV4Auth(keys, "logs", aws.region).add_auth(request)
        return requests.post(url, request.data, headers=dict(request.headers), timeout=10)

    first, again, other = create("first"), create("first"), create("other")
    aws.client("logs").delete_log_group(logGroupName="once")
    later = create("other")
    aws.client("logs").delete_log_group(logGroupName="once")

    assert [answer.status_code for answer in (first, again, other, later)] == [200, 200, 400, 200]
    assert (again.text, again.headers["x-amzn-requestid"]) == (first.text, first.headers["x-amzn-requestid"])
    assert "ResourceAlreadyExistsException" in other.text


def test_an_alarm_on_an_expression_is_kept(aws: Environment) -> None:
    """Its queries are described as they were put, without a statistic or period of the alarm itself."""
    alarms = aws.client("cloudwatch")
    metric = {"Namespace": "N", "MetricName": "A", "Dimensions": [{"Name": "x", "Value": "y"}]}
    queries = [
        {"Id": "m", "Expression": "a - 1", "Label": "L", "ReturnData": True},
        {
            "Id": "a",
            "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Average"},
            "ReturnData": False,
        },
    ]

    alarms.put_metric_alarm(
        AlarmName="expression",
        EvaluationPeriods=5,
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
        Metrics=queries,
    )
    [found] = alarms.describe_alarms(AlarmNames=["expression"])["MetricAlarms"]
    alarms.delete_alarms(AlarmNames=["expression"])

    assert found["Metrics"] == queries
    assert not {"Statistic", "Period"} & set(found)


def test_a_listener_redirects_to_the_same_url_by_https(tmp_path: Path) -> None:
    """Host, path and query stay, and the location names the port.

    Source: "Redirect actions",
    docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-action-types.html
    """
    need(shutil.which("haproxy") is not None, "HAProxy is not installed")
    listener = Listener(free_port(), None, 60, redirect=Redirect("HTTPS", "443", 301))

    with running(tmp_path, listener):
        connection = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=10)
        connection.request("GET", "/files/a%20b?limit=1", headers={"Host": "files.example.com:80"})
        answer = connection.getresponse()
        connection.close()

    assert answer.status == 301
    assert answer.headers["Location"] == "https://files.example.com:443/files/a%20b?limit=1"


@contextmanager
def running(directory: Path, listener: Listener) -> Iterator[None]:
    """HAProxy with one listener."""
    file = directory / "haproxy.cfg"
    file.write_text(configuration((listener,), directory / "control"))
    process = subprocess.Popen(["haproxy", "-q", "-db", "-f", str(file)])
    try:
        until(lambda: listens(listener.port), "HAProxy listens", 20)
        yield
    finally:
        process.terminate()
        process.wait(20)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except OSError:
        return False
    return True


def test_an_authority_is_kept(tmp_path: Path) -> None:
    """After a restart, certificates are signed by the same CA, and only root can read the keys."""
    arn = "arn:aws:acm:eu-west-1:000000000000:certificate/one"
    first = Authority(tmp_path / "certificates").issue(arn, ["a.example.org"])
    second = Authority(tmp_path / "certificates").issue(arn.replace("one", "two"), ["b.example.org"])
    files = list((tmp_path / "certificates").iterdir())

    assert first.chain == second.chain
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert len(files) == 3
