"""Refuses, before the image is built, what an apply would fail at: instance types, rules, names in use."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

from botocore.exceptions import ClientError

from deploy.environments import BILLING_REGION, CHECKOUT, Environment
from deploy.service import Service
from deploy.steps import Failed, Reporter
from deploy.terraform_variables import FILE

# The memory of the types of instances, which Terraform reads too.
MEMORY = CHECKOUT / "modules/cluster/memory.json"
# What the course attaches by hand, such as AmazonS3FullAccess, stays on an imported role.
_DETACH = "\n  Then take the managed policies off the roles, as an administrator: the stack gives them none."
# AWS's group of rules in modules/load_balancer/firewall.tf.
RULE_GROUP = "AWSManagedRulesKnownBadInputsRuleSet"


def instance_type(environment: Environment) -> None:
    """Check that the account may start the instance type, before an apply waits ten minutes for instances.

    Each zone of a subnet must have the type. The type must have the architecture of the image, or no task
    starts ("exec format error"), and memory for an old and a new task.

    Accounts on the free plan may start only the types that are eligible for the free tier:
    https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/free-tier-plans.html
    """
    wanted, architecture = environment.variables["instance_type"], environment.variables["architecture"]
    file = f"envs/{environment.root.name}/{FILE}"
    ec2 = environment.client("ec2")
    offering = _zones_with(ec2, wanted)
    if not offering:
        raise Failed(f"{environment.region} has no {wanted}", f"Set another instance_type in {file}")
    zones = {subnet["availability_zone"] for subnet in environment.variables["public_subnets"].values()}
    if missing := zones - offering:
        raise Failed(
            f"{', '.join(sorted(missing))} has no {wanted}, and a subnet is there",
            f"Set another instance_type in {file}, or, before the first deployment, other zones in "
            f"public_subnets: {', '.join(sorted(offering))}",
        )
    for entry in ec2.describe_instance_types(InstanceTypes=[wanted])["InstanceTypes"]:
        if entry["InstanceType"] == wanted and not _runs(entry, architecture):
            has = ", ".join(entry["ProcessorInfo"]["SupportedArchitectures"])
            raise Failed(
                f"{wanted} is {has}, and architecture is {architecture}",
                f"Set an architecture and an instance_type that agree in {file}",
            )
    _has_memory(environment, wanted)
    if not _on_free_plan(environment):
        return
    pages = ec2.get_paginator("describe_instance_types").paginate(
        Filters=[{"Name": "free-tier-eligible", "Values": ["true"]}]
    )
    eligible = {entry["InstanceType"] for page in pages for entry in page["InstanceTypes"]}
    if wanted not in eligible:
        fits = sorted(eligible.intersection(_large_enough(environment)))
        raise Failed(
            f"this account is on the free plan, which does not include {wanted}",
            f"Set instance_type in {file} to one of {', '.join(fits)}, "
            "or upgrade the account to the paid plan",
        )


def _zones_with(ec2: Any, instance_type: str) -> set[str]:
    """The zones of the region that offer the type."""
    pages = ec2.get_paginator("describe_instance_type_offerings").paginate(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [instance_type]}]
    )
    return {offer["Location"] for page in pages for offer in page["InstanceTypeOfferings"]}


def _memory(environment: Environment) -> dict[str, int]:
    """The memory for tasks, in MiB, of the known types of the architecture."""
    memory = json.loads(MEMORY.read_text())
    types = memory["instances"][environment.variables["architecture"]]
    return {name: mib - memory["reserved"] for name, mib in types.items()}


def _large_enough(environment: Environment) -> list[str]:
    """The types with memory for an old and a new task at their limits: a deployment runs both."""
    needed = 2 * environment.variables["memory_mib"]["limit"]
    return [name for name, mib in _memory(environment).items() if mib >= needed]


def _has_memory(environment: Environment, wanted: str) -> None:
    """Raise unless two tasks fit on an instance. Terraform checks it too, but after the image is built."""
    fits, file = ", ".join(_large_enough(environment)), f"envs/{environment.root.name}/{FILE}"
    if wanted not in _memory(environment):
        raise Failed(
            f"the memory of {wanted} is not known",
            f"Set instance_type in {file} to one of {fits}, "
            f"or add its memory to {MEMORY.relative_to(CHECKOUT)}",
        )
    if wanted not in _large_enough(environment):
        limit = environment.variables["memory_mib"]["limit"]
        raise Failed(
            f"two tasks of {limit} MiB do not fit on one {wanted}",
            f"In {file}, set a smaller memory_mib.limit, or set instance_type to one of {fits}",
        )


def firewall_rules(environment: Environment, report: Reporter) -> None:
    """Check that AWS offers the version of the firewall's rules, or that the firewall has it already.

    AWS does not list a version that it has scheduled for expiry, and does not describe it. A firewall keeps
    such a version. No firewall can change to it.
    https://docs.aws.amazon.com/waf/latest/developerguide/waf-managed-rule-groups-versioning-lifecycle.html
    https://docs.aws.amazon.com/waf/latest/APIReference/API_DescribeManagedRuleGroup.html
    """
    firewall = environment.variables["firewall"]
    if firewall is None:
        return
    waf, version = environment.client("wafv2"), firewall["rules_version"]
    listed: set[str] = set()
    more: dict[str, str] = {}
    while True:
        answer = waf.list_available_managed_rule_group_versions(
            VendorName="AWS", Name=RULE_GROUP, Scope="REGIONAL", **more
        )
        listed |= {entry["Name"] for entry in answer["Versions"]}
        if not answer.get("NextMarker"):
            break
        more = {"NextMarker": answer["NextMarker"]}
    if version in listed:
        return
    remedy = (
        f"Set firewall.rules_version in envs/{environment.root.name}/{FILE} to one of "
        f"{', '.join(sorted(listed))}; AWS's default is {answer.get('CurrentDefaultVersion', 'not known')}"
    )
    if version == _deployed_rules(waf, f"{environment.project}-waf"):
        report.say(f"AWS will remove {version} of the firewall's rules, or has removed it. {remedy}")
        return
    raise Failed(f"AWS does not offer {version} of the firewall's rules, {RULE_GROUP}", remedy)


def _web_acl(waf: Any, name: str) -> str | None:
    """The id of the firewall, or None if it does not exist."""
    found = waf.list_web_acls(Scope="REGIONAL", Limit=100)["WebACLs"]
    return next((str(entry["Id"]) for entry in found if entry["Name"] == name), None)


def _deployed_rules(waf: Any, name: str) -> str | None:
    """The version of the rules that the firewall has now, or None without a firewall or a version."""
    id_ = _web_acl(waf, name)
    if id_ is None:
        return None
    for rule in waf.get_web_acl(Name=name, Scope="REGIONAL", Id=id_)["WebACL"]["Rules"]:
        group = rule["Statement"].get("ManagedRuleGroupStatement", {})
        if group.get("Name") == RULE_GROUP:
            version: str | None = group.get("Version")
            return version
    return None


def same_architecture(environment: Environment, service: Service) -> None:
    """Raise if a deployment would change the architecture of a stack that runs.

    ECS cannot place the new tasks on the old instances. Only `make refresh` replaces the instances, and it
    runs after a deployment.
    """
    wanted, runs = environment.variables["architecture"], service.architecture()
    if runs not in {None, wanted}:
        raise Failed(
            f"the stack runs on {runs}, and a deployment cannot change that to {wanted}",
            f"Remove the stack and deploy it again; the files stay: {environment.command('destroy')}",
        )


def _runs(entry: dict[str, Any], architecture: str) -> bool:
    return architecture in entry["ProcessorInfo"]["SupportedArchitectures"]


def _on_free_plan(environment: Environment) -> bool:
    """Whether the account is on the free plan. An account from before July 2025 has no plan."""
    try:
        plan = environment.client("freetier", BILLING_REGION).get_account_plan_state()
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return False
        raise
    return bool(plan["accountPlanType"] == "FREE")


def made_by_hand(environment: Environment, state: Collection[str], options: str = "") -> None:
    """Raise if a resource exists that Terraform would create, as the course creates some by hand.

    `state` has the addresses in Terraform's state, and `options` those that `terraform import` needs.
    """
    found = [
        (address, id_)
        for address, find in _named(environment).items()
        if address not in state and (id_ := _existing(find))
    ]
    if found:
        commands = [f"    terraform import {options} '{address}' '{id_}'" for address, id_ in found]
        roles = [id_ for address, id_ in found if ".aws_iam_role." in address]
        detach = dict.fromkeys(command for role in roles for command in _detach(environment, role))
        raise Failed(
            f"{len(found)} resources of the stack exist, and are not in its state:\n" + "\n".join(commands),
            f"To let this stack manage them, run these commands in envs/{environment.root.name} and deploy "
            f"again. Otherwise delete them, or choose other names in {FILE}"
            + (_DETACH + "".join(f"\n    {command}" for command in detach) if detach else ""),
        )


def _detach(environment: Environment, role: str) -> list[str]:
    """The commands that take the managed policies off a role."""
    attached = environment.client("iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    return [
        f"aws iam detach-role-policy --role-name {role} --policy-arn {policy['PolicyArn']}"
        for policy in attached
    ]


def _existing(find: Callable[[], str | None]) -> str | None:
    try:
        return find()
    except ClientError as error:
        if error.response["Error"]["Code"].removesuffix("Exception").endswith(("NotFound", "NoSuchEntity")):
            return None
        raise


def _record(environment: Environment) -> dict[str, Callable[[], str | None]]:
    """The A record of the API's name, if Terraform makes one. Route 53 refuses a second one, or a CNAME."""
    values = environment.emulated.values if environment.emulated else environment.variables
    zone, domain = values.get("zone_id"), values.get("domain_name")

    file = f"envs/{environment.root.name}/{FILE}"

    def alias() -> str | None:
        route53 = environment.client("route53")
        try:
            found = route53.list_resource_record_sets(
                HostedZoneId=zone, StartRecordName=domain, StartRecordType="A", MaxItems="1"
            )["ResourceRecordSets"]
        except route53.exceptions.NoSuchHostedZone:
            raise Failed(
                f"there is no Route 53 zone {zone}",
                f"Set zone_id in {file} to the id of the zone of {domain}",
            ) from None
        types = [entry["Type"] for entry in found if entry["Name"] == f"{domain}."]
        if "CNAME" in types:
            raise Failed(
                f"the zone {zone} has a CNAME record for {domain}",
                f"Delete that record, or set another domain_name in {file}",
            )
        return f"{zone}_{domain}_A" if "A" in types else None

    return {"module.domain.aws_route53_record.alias[0]": alias} if zone and domain else {}


def _named(environment: Environment) -> dict[str, Callable[[], str | None]]:
    """Resources whose name an account can have once: by address, a call that returns the id for an import."""
    project = environment.project
    topic = (
        f"arn:aws:sns:{BILLING_REGION}:{environment.account}:{environment.variables['billing_topic_name']}"
    )
    iam, sns = environment.client("iam"), environment.client("sns", BILLING_REGION)
    ecr, elb = environment.client("ecr"), environment.client("elbv2")
    ec2, ecs = environment.client("ec2"), environment.client("ecs")
    log_client, waf = environment.client("logs"), environment.client("wafv2")

    def role(name: str) -> Callable[[], str | None]:
        return lambda: str(iam.get_role(RoleName=name)["Role"]["RoleName"])

    def profile() -> str | None:
        name = f"{project}-instance"
        return str(
            iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["InstanceProfileName"]
        )

    def log_group(name: str) -> Callable[[], str | None]:
        def find() -> str | None:
            found = log_client.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
            return next((name for group in found if group["logGroupName"] == name), None)

        return find

    def template() -> str | None:
        named = {"Name": "launch-template-name", "Values": [f"{project}-flask-lt"]}
        found = ec2.describe_launch_templates(Filters=[named])["LaunchTemplates"]
        return str(found[0]["LaunchTemplateId"]) if found else None

    def cluster() -> str | None:
        found = ecs.describe_clusters(clusters=[project])["clusters"]
        return project if any(entry["status"] == "ACTIVE" for entry in found) else None

    def capacity_provider() -> str | None:
        name = f"{project}-flask"
        found = ecs.describe_capacity_providers(capacityProviders=[name])["capacityProviders"]
        return name if any(entry["status"] == "ACTIVE" for entry in found) else None

    def web_acl() -> str | None:
        id_ = _web_acl(waf, f"{project}-waf")
        return f"{id_}/{project}-waf/REGIONAL" if id_ else None

    of_production = {
        "module.network.aws_cloudwatch_log_group.flow_logs[0]": log_group(f"/vpc/{project}"),
        "module.network.aws_iam_role.flow_logs[0]": role(f"{project}-flow-logs"),
        "module.load_balancer.aws_cloudwatch_log_group.firewall[0]": log_group(f"aws-waf-logs-{project}"),
        "module.load_balancer.aws_wafv2_web_acl.this[0]": web_acl,
    }
    return {
        "module.service.aws_iam_role.task": role(environment.variables["task_role_name"]),
        "module.service.aws_iam_role.execution": role(f"{project}-execution"),
        "module.service.aws_cloudwatch_log_group.this": log_group(f"/ecs/{project}"),
        "module.billing_alarm.aws_sns_topic.this": lambda: sns.get_topic_attributes(TopicArn=topic)[
            "Attributes"
        ]["TopicArn"],
        "module.registry.aws_ecr_repository.this": lambda: ecr.describe_repositories(
            repositoryNames=[project]
        )["repositories"][0]["repositoryName"],
        "module.load_balancer.aws_lb.this": lambda: elb.describe_load_balancers(Names=[f"{project}-alb"])[
            "LoadBalancers"
        ][0]["LoadBalancerArn"],
        "module.load_balancer.aws_lb_target_group.this": lambda: elb.describe_target_groups(
            Names=[f"{project}-tg"]
        )["TargetGroups"][0]["TargetGroupArn"],
        "module.cluster.aws_iam_role.instance": role(f"{project}-instance"),
        "module.cluster.aws_iam_instance_profile.this": profile,
        "module.cluster.aws_launch_template.this": template,
        "module.cluster.aws_ecs_cluster.this": cluster,
        "module.cluster.aws_ecs_capacity_provider.this": capacity_provider,
        **(of_production if environment.variables["firewall"] else {}),
        **_record(environment),
    }
