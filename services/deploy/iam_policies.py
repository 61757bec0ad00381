"""The IAM policies of a deployer, and of the person who makes the buckets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# `documents` replaces these by values of Terraform variables. Names begin with `project_name`.
_PROJECT, _TASK_ROLE, _BILLING_TOPIC = "<project_name>", "<task_role_name>", "<billing_topic_name>"
NAME = f"{_PROJECT}*"
# The id of the Route 53 zone of prod's name. Without a zone it stays, and the policies allow no zone.
ZONE = "ZONE_ID"

# What the provider calls to make, read, change, tag and delete a resource of each type.
RESOURCES: dict[str, str] = {
    "aws_acm_certificate": """
        acm:AddTagsToCertificate acm:DeleteCertificate acm:DescribeCertificate acm:ListTagsForCertificate
        acm:RemoveTagsFromCertificate acm:RequestCertificate""",
    "aws_acm_certificate_validation": "acm:DescribeCertificate",
    "aws_appautoscaling_policy": """
        application-autoscaling:DeleteScalingPolicy application-autoscaling:DescribeScalingPolicies
        application-autoscaling:PutScalingPolicy cloudwatch:DeleteAlarms cloudwatch:DescribeAlarms
        cloudwatch:PutMetricAlarm""",
    "aws_appautoscaling_target": """
        application-autoscaling:DeregisterScalableTarget application-autoscaling:DescribeScalableTargets
        application-autoscaling:ListTagsForResource application-autoscaling:RegisterScalableTarget
        application-autoscaling:TagResource application-autoscaling:UntagResource
        iam:CreateServiceLinkedRole""",
    "aws_autoscaling_group": """
        autoscaling:CancelInstanceRefresh autoscaling:CreateAutoScalingGroup autoscaling:CreateOrUpdateTags
        autoscaling:DeleteAutoScalingGroup autoscaling:DeleteTags autoscaling:DescribeAutoScalingGroups
        autoscaling:DescribeInstanceRefreshes autoscaling:DescribeScalingActivities
        autoscaling:DescribeWarmPool
        autoscaling:StartInstanceRefresh autoscaling:UpdateAutoScalingGroup ec2:CreateTags
        ec2:DescribeLaunchTemplateVersions ec2:DescribeLaunchTemplates ec2:RunInstances
        iam:CreateServiceLinkedRole iam:PassRole""",
    "aws_cloudwatch_dashboard": """
        cloudwatch:DeleteDashboards cloudwatch:GetDashboard cloudwatch:PutDashboard""",
    "aws_cloudwatch_log_group": """
        logs:CreateLogGroup logs:DeleteLogGroup logs:DescribeLogGroups logs:ListTagsForResource
        logs:PutRetentionPolicy logs:TagResource logs:UntagResource""",
    "aws_cloudwatch_log_metric_filter": """
        logs:DeleteMetricFilter logs:DescribeMetricFilters logs:PutMetricFilter""",
    "aws_cloudwatch_metric_alarm": """
        cloudwatch:DeleteAlarms cloudwatch:DescribeAlarms cloudwatch:ListTagsForResource
        cloudwatch:PutMetricAlarm cloudwatch:TagResource cloudwatch:UntagResource""",
    "aws_default_security_group": """
        ec2:CreateTags ec2:DeleteTags ec2:DescribeSecurityGroups ec2:RevokeSecurityGroupEgress
        ec2:RevokeSecurityGroupIngress""",
    "aws_ecr_lifecycle_policy": """
        ecr:DeleteLifecyclePolicy ecr:GetLifecyclePolicy ecr:PutLifecyclePolicy""",
    "aws_ecr_repository": """
        ecr:CreateRepository ecr:DeleteRepository ecr:DescribeRepositories ecr:ListTagsForResource
        ecr:PutImageScanningConfiguration ecr:PutImageTagMutability ecr:TagResource ecr:UntagResource""",
    "aws_ecs_capacity_provider": """
        autoscaling:CreateOrUpdateTags ecs:CreateCapacityProvider ecs:DeleteCapacityProvider
        ecs:DescribeCapacityProviders ecs:TagResource ecs:UntagResource ecs:UpdateCapacityProvider""",
    "aws_ecs_cluster": """
        ecs:CreateCluster ecs:DeleteCluster ecs:DescribeClusters ecs:TagResource ecs:UntagResource
        ecs:UpdateCluster ecs:UpdateClusterSettings""",
    "aws_ecs_cluster_capacity_providers": """
        ecs:DescribeClusters ecs:PutClusterCapacityProviders""",
    "aws_ecs_service": """
        ecs:CreateService ecs:DeleteService ecs:DescribeServices ecs:TagResource ecs:UntagResource
        ecs:UpdateService iam:PassRole""",
    "aws_ecs_task_definition": """
        ecs:DeregisterTaskDefinition ecs:DescribeTaskDefinition ecs:RegisterTaskDefinition ecs:TagResource
        ecs:UntagResource iam:PassRole""",
    "aws_flow_log": """
        ec2:CreateFlowLogs ec2:CreateTags ec2:DeleteFlowLogs ec2:DeleteTags ec2:DescribeFlowLogs
        iam:PassRole""",
    "aws_iam_instance_profile": """
        iam:AddRoleToInstanceProfile iam:CreateInstanceProfile iam:DeleteInstanceProfile
        iam:GetInstanceProfile iam:PassRole iam:RemoveRoleFromInstanceProfile iam:TagInstanceProfile
        iam:UntagInstanceProfile""",
    "aws_iam_role": """
        iam:CreateRole iam:DeleteRole iam:GetRole iam:ListAttachedRolePolicies
        iam:ListInstanceProfilesForRole iam:ListRolePolicies iam:TagRole iam:UntagRole
        iam:UpdateAssumeRolePolicy iam:UpdateRole""",
    "aws_iam_role_policy": """
        iam:DeleteRolePolicy iam:GetRolePolicy iam:PutRolePolicy""",
    "aws_internet_gateway": """
        ec2:AttachInternetGateway ec2:CreateInternetGateway ec2:CreateTags ec2:DeleteInternetGateway
        ec2:DeleteTags ec2:DescribeInternetGateways ec2:DetachInternetGateway""",
    "aws_launch_template": """
        ec2:CreateLaunchTemplate ec2:CreateLaunchTemplateVersion ec2:CreateTags ec2:DeleteLaunchTemplate
        ec2:DeleteTags ec2:DescribeLaunchTemplateVersions ec2:DescribeLaunchTemplates
        ec2:ModifyLaunchTemplate""",
    # What CreateLoadBalancer itself reads: docs.aws.amazon.com/elasticloadbalancing/latest/userguide,
    # "Elastic Load Balancing API permissions". With security groups it also needs GetSecurityGroupsForVpc,
    # which no page of AWS names (github.com/kubernetes-sigs/aws-load-balancer-controller/issues/3917).
    "aws_lb": """
        ec2:DescribeAccountAttributes ec2:DescribeAddresses ec2:DescribeInternetGateways
        ec2:DescribeNetworkInterfaces ec2:DescribeSecurityGroups ec2:DescribeSubnets ec2:DescribeVpcs
        ec2:GetSecurityGroupsForVpc
        elasticloadbalancing:AddTags elasticloadbalancing:CreateLoadBalancer
        elasticloadbalancing:DeleteLoadBalancer elasticloadbalancing:DescribeCapacityReservation
        elasticloadbalancing:DescribeLoadBalancerAttributes elasticloadbalancing:DescribeLoadBalancers
        elasticloadbalancing:DescribeTags elasticloadbalancing:ModifyLoadBalancerAttributes
        elasticloadbalancing:RemoveTags elasticloadbalancing:SetSecurityGroups
        elasticloadbalancing:SetSubnets iam:CreateServiceLinkedRole""",
    "aws_lb_listener": """
        elasticloadbalancing:AddTags elasticloadbalancing:CreateListener elasticloadbalancing:DeleteListener
        elasticloadbalancing:DescribeListenerAttributes elasticloadbalancing:DescribeListeners
        elasticloadbalancing:DescribeTags elasticloadbalancing:ModifyListener
        elasticloadbalancing:ModifyListenerAttributes elasticloadbalancing:RemoveTags""",
    "aws_lb_target_group": """
        elasticloadbalancing:AddTags elasticloadbalancing:CreateTargetGroup
        elasticloadbalancing:DeleteTargetGroup elasticloadbalancing:DescribeTags
        elasticloadbalancing:DescribeTargetGroupAttributes elasticloadbalancing:DescribeTargetGroups
        elasticloadbalancing:ModifyTargetGroup elasticloadbalancing:ModifyTargetGroupAttributes
        elasticloadbalancing:RemoveTags""",
    "aws_route": """
        ec2:CreateRoute ec2:DeleteRoute ec2:DescribeRouteTables ec2:ReplaceRoute""",
    "aws_route_table": """
        ec2:CreateRouteTable ec2:CreateTags ec2:DeleteRouteTable ec2:DeleteTags ec2:DescribeRouteTables""",
    "aws_route_table_association": """
        ec2:AssociateRouteTable ec2:DescribeRouteTables ec2:DisassociateRouteTable
        ec2:ReplaceRouteTableAssociation""",
    "aws_route53_record": """
        route53:ChangeResourceRecordSets route53:GetChange route53:GetHostedZone
        route53:ListResourceRecordSets""",
    "aws_security_group": """
        ec2:CreateSecurityGroup ec2:CreateTags ec2:DeleteSecurityGroup ec2:DeleteTags
        ec2:DescribeNetworkInterfaces ec2:DescribeSecurityGroups ec2:RevokeSecurityGroupEgress""",
    "aws_sns_topic": """
        sns:CreateTopic sns:DeleteTopic sns:GetTopicAttributes sns:ListTagsForResource
        sns:SetTopicAttributes sns:TagResource sns:UntagResource""",
    "aws_sns_topic_policy": """
        sns:GetTopicAttributes sns:SetTopicAttributes""",
    "aws_sns_topic_subscription": """
        sns:GetSubscriptionAttributes sns:SetSubscriptionAttributes sns:Subscribe sns:Unsubscribe""",
    "aws_subnet": """
        ec2:CreateSubnet ec2:CreateTags ec2:DeleteSubnet ec2:DeleteTags ec2:DescribeNetworkInterfaces
        ec2:DescribeSubnets ec2:ModifySubnetAttribute""",
    "aws_vpc": """
        ec2:CreateTags ec2:CreateVpc ec2:DeleteTags ec2:DeleteVpc ec2:DescribeNetworkAcls
        ec2:DescribeRouteTables ec2:DescribeSecurityGroups ec2:DescribeVpcAttribute ec2:DescribeVpcs
        ec2:ModifyVpcAttribute""",
    "aws_vpc_endpoint": """
        ec2:CreateTags ec2:CreateVpcEndpoint ec2:DeleteTags ec2:DeleteVpcEndpoints ec2:DescribePrefixLists
        ec2:DescribeVpcEndpoints ec2:ModifyVpcEndpoint""",
    "aws_vpc_security_group_egress_rule": """
        ec2:AuthorizeSecurityGroupEgress ec2:CreateTags ec2:DeleteTags ec2:DescribeSecurityGroupRules
        ec2:ModifySecurityGroupRules ec2:RevokeSecurityGroupEgress""",
    "aws_vpc_security_group_ingress_rule": """
        ec2:AuthorizeSecurityGroupIngress ec2:CreateTags ec2:DeleteTags ec2:DescribeSecurityGroupRules
        ec2:ModifySecurityGroupRules ec2:RevokeSecurityGroupIngress""",
    "aws_wafv2_web_acl": """
        wafv2:CreateWebACL wafv2:DeleteWebACL wafv2:GetWebACL wafv2:ListTagsForResource wafv2:TagResource
        wafv2:UntagResource wafv2:UpdateWebACL""",
    "aws_wafv2_web_acl_association": """
        elasticloadbalancing:CreateWebACLAssociation elasticloadbalancing:DeleteWebACLAssociation
        elasticloadbalancing:GetLoadBalancerWebACL elasticloadbalancing:SetWebAcl wafv2:AssociateWebACL
        wafv2:DisassociateWebACL wafv2:GetWebACL wafv2:GetWebACLForResource""",
    "aws_wafv2_web_acl_logging_configuration": """
        iam:CreateServiceLinkedRole logs:CreateLogDelivery logs:DeleteLogDelivery
        logs:DescribeResourcePolicies logs:PutResourcePolicy wafv2:DeleteLoggingConfiguration
        wafv2:GetLoggingConfiguration wafv2:PutLoggingConfiguration""",
}

# What the data sources read. The rest of them ask nothing that needs a permission.
DATA: dict[str, str] = {
    "aws_caller_identity": "sts:GetCallerIdentity",
    "aws_default_tags": "",
    "aws_region": "",
    "aws_s3_bucket": "s3:GetBucketLocation s3:ListBucket",
    "aws_ssm_parameter": "ssm:GetParameter",
}

# What a deployment does in addition to Terraform: state, image, secrets, the role of ECS, logs, removal.
# iam:DetachRolePolicy: older versions of day02 attached managed policies of AWS to the instance role.
DEPLOYMENT = """
    ecr:BatchCheckLayerAvailability ecr:BatchDeleteImage ecr:BatchGetImage ecr:CompleteLayerUpload
    ecr:DescribeImages ecr:GetAuthorizationToken ecr:InitiateLayerUpload ecr:ListImages ecr:PutImage
    ecr:UploadLayerPart
    ecs:DeleteTaskDefinitions ecs:DescribeTasks ecs:ListTaskDefinitions ecs:ListTasks
    elasticloadbalancing:DescribeTargetHealth iam:CreateServiceLinkedRole iam:DetachRolePolicy
    ec2:DescribeInstanceTypeOfferings ec2:DescribeInstanceTypes ec2:DescribeInstances ec2:DescribeVolumes
    freetier:GetAccountPlanState logs:DescribeLogStreams logs:FilterLogEvents logs:GetLogEvents
    s3:DeleteObject s3:GetObject s3:ListBucket s3:PutObject
    ssm:DescribeParameters ssm:PutParameter
    wafv2:GetWebACL wafv2:ListAvailableManagedRuleGroupVersions wafv2:ListWebACLs
    autoscaling:RollbackInstanceRefresh
    tag:GetResources"""

_OWN = {"StringEquals": {"aws:ResourceTag/project_name": _PROJECT}}
_NEW = {"StringEquals": {"aws:RequestTag/project_name": _PROJECT}}


@dataclass(frozen=True)
class _Scope:
    """A statement: these actions, on these resources, under this condition.

    `actions` are names, or beginnings of names that end in `*`. A beginning takes only actions that no
    statement names in full. AWS allows an action on several resources when it is allowed on each of them, so
    such an action can be in several statements.
    """

    sid: str
    actions: str
    resources: list[str]
    condition: dict[str, dict[str, Any]] | None = None
    effect: str = "Allow"


def _arns(service: str, *resources: str) -> list[str]:
    return [f"arn:aws:{service}:*:*:{resource}" for resource in resources]


_ROLES = [f"arn:aws:iam::*:role/{NAME}", f"arn:aws:iam::*:role/{_TASK_ROLE}"]
_ANYTHING = ["*"]
# The name of the default security group of a VPC, in modules/network/main.tf.
_UNUSED = f"{NAME}-unused"

# What `make bucket` does: it makes the buckets and configures them. It reads and writes no file.
BUCKETS = """
    s3:CreateBucket s3:GetBucketCORS s3:GetBucketLocation s3:GetBucketPolicy s3:GetBucketPublicAccessBlock
    s3:GetBucketVersioning s3:GetEncryptionConfiguration s3:GetLifecycleConfiguration s3:ListBucket
    s3:PutBucketCORS s3:PutBucketPolicy s3:PutBucketPublicAccessBlock s3:PutBucketVersioning
    s3:PutEncryptionConfiguration s3:PutLifecycleConfiguration"""

# An IAM policy has at most 6,144 characters, so the statements are in several policies
# (docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html).
_POLICIES: dict[str, list[_Scope]] = {
    "deployer-network": [
        # A web ACL refers to AWS's managed groups of rules.
        _Scope(
            "FirewallRules",
            "wafv2:CreateWebACL wafv2:UpdateWebACL",
            _arns("wafv2", f"regional/webacl/{NAME}", "regional/managedruleset/*"),
        ),
        _Scope(
            "FirewallsAnywhere",
            "wafv2:ListAvailableManagedRuleGroupVersions wafv2:ListWebACLs",
            _ANYTHING,
        ),
        _Scope(
            "Firewall",
            "wafv2:*",
            [
                *_arns("wafv2", f"regional/webacl/{NAME}"),
                *_arns("elasticloadbalancing", f"loadbalancer/app/{NAME}"),
            ],
        ),
        # AWS chooses the ids of networks, so tags tell which are this project's. A new resource has the tag
        # in the request that makes it. An action that makes one resource inside another is in a statement
        # without the other's type: otherwise the tag in the request would open another owner's resource.
        _Scope("NetworksAnywhere", "ec2:Describe*", _ANYTHING),
        _Scope("NetworksOfBalancers", "ec2:GetSecurityGroupsForVpc", _arns("ec2", "vpc/*")),
        _Scope(
            "NetworksNew",
            "ec2:CreateInternetGateway ec2:CreateLaunchTemplate ec2:CreateVpc",
            _arns("ec2", "internet-gateway/*", "launch-template/*", "vpc/*"),
            _NEW,
        ),
        _Scope(
            "NetworksNewInVpc",
            "ec2:CreateRouteTable ec2:CreateSecurityGroup ec2:CreateSubnet",
            _arns("ec2", "route-table/*", "security-group/*", "subnet/*"),
            _NEW,
        ),
        _Scope(
            "NetworksNewBesideOthers",
            """ec2:AuthorizeSecurityGroupEgress ec2:AuthorizeSecurityGroupIngress ec2:CreateFlowLogs
            ec2:CreateVpcEndpoint""",
            _arns("ec2", "security-group-rule/*", "vpc-endpoint/*", "vpc-flow-log/*"),
            _NEW,
        ),
        _Scope(
            "Networks",
            """ec2:AuthorizeSecurityGroupEgress ec2:AuthorizeSecurityGroupIngress ec2:CreateFlowLogs
            ec2:CreateRouteTable ec2:CreateSecurityGroup ec2:CreateSubnet ec2:CreateVpcEndpoint ec2:*""",
            _arns("ec2", "*"),
            _OWN,
        ),
        _Scope(
            "TagsNew",
            "ec2:CreateTags",
            _arns("ec2", "*"),
            {
                "StringEquals": {
                    **_NEW["StringEquals"],
                    "ec2:CreateAction": [
                        "AuthorizeSecurityGroupEgress",
                        "AuthorizeSecurityGroupIngress",
                        "CreateFlowLogs",
                        "CreateInternetGateway",
                        "CreateLaunchTemplate",
                        "CreateRouteTable",
                        "CreateSecurityGroup",
                        "CreateSubnet",
                        "CreateVpc",
                        "CreateVpcEndpoint",
                        "RunInstances",
                    ],
                }
            },
        ),
        # The project's tag stays as it is.
        _Scope(
            "Tags",
            "ec2:CreateTags",
            _arns("ec2", "*"),
            {**_OWN, "StringEqualsIfExists": _NEW["StringEquals"]},
        ),
        # AWS makes the default security group of a VPC, without tags. Terraform tags it, and then empties it.
        # No condition tells it from an untagged group of another owner. So an untagged group only ever gets
        # this name, and with it no permission except to remove its rules.
        _Scope(
            "TagsDefaultGroup",
            "ec2:CreateTags",
            _arns("ec2", "security-group/*"),
            {
                **_NEW,
                "StringLike": {"aws:RequestTag/Name": _UNUSED},
                "Null": {"aws:ResourceTag/project_name": "true"},
            },
        ),
        _Scope(
            "DefaultGroupStaysEmpty",
            """ec2:AuthorizeSecurityGroupEgress ec2:AuthorizeSecurityGroupIngress ec2:DeleteSecurityGroup
            ec2:DeleteTags ec2:ModifySecurityGroupRules ec2:RunInstances""",
            _arns("ec2", "security-group/*"),
            {"StringLike": {"aws:ResourceTag/Name": _UNUSED}},
            "Deny",
        ),
        _Scope(
            "DefaultGroupKeepsItsName",
            "ec2:CreateTags",
            _arns("ec2", "security-group/*"),
            {
                "StringLike": {"aws:ResourceTag/Name": _UNUSED},
                "StringNotLike": {"aws:RequestTag/Name": _UNUSED},
                "Null": {"aws:RequestTag/Name": "false"},
            },
            "Deny",
        ),
        # Instances start from the project's launch template and in its network only.
        _Scope(
            "Instances",
            "ec2:RunInstances",
            [
                *_arns("ec2", "instance/*", "key-pair/*", "network-interface/*", "volume/*"),
                "arn:aws:ec2:*::image/*",
                "arn:aws:ec2:*::snapshot/*",
            ],
            {"ArnLike": {"ec2:LaunchTemplate": "arn:aws:ec2:*:*:launch-template/*"}},
        ),
        _Scope(
            "InstancesFrom",
            "ec2:RunInstances",
            _arns("ec2", "launch-template/*", "security-group/*", "subnet/*"),
            _OWN,
        ),
    ],
    "deployer-compute": [
        _Scope(
            "IamPass",
            "iam:PassRole",
            _ROLES,
            {
                "StringEquals": {
                    "iam:PassedToService": [
                        "ec2.amazonaws.com",
                        "ecs-tasks.amazonaws.com",
                        "vpc-flow-logs.amazonaws.com",
                    ]
                }
            },
        ),
        # Older versions of day02 attached managed policies of AWS to the instance role.
        _Scope(
            "IamManagedPolicies",
            "iam:DetachRolePolicy",
            _ROLES,
            {
                "ArnEquals": {
                    "iam:PolicyARN": [
                        "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",
                        "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role",
                    ]
                }
            },
        ),
        _Scope("Iam", "iam:*", [*_ROLES, f"arn:aws:iam::*:instance-profile/{NAME}"]),
        _Scope(
            "EcsAnywhere",
            "ecs:DeregisterTaskDefinition ecs:DescribeTaskDefinition ecs:ListTaskDefinitions",
            _ANYTHING,
        ),
        _Scope(
            "EcsTasks",
            "ecs:ListTasks",
            _ANYTHING,
            {"ArnLike": {"ecs:cluster": _arns("ecs", f"cluster/{NAME}")}},
        ),
        _Scope(
            "Ecs",
            "ecs:*",
            _arns(
                "ecs",
                *(
                    f"{kind}/{NAME}"
                    for kind in ("capacity-provider", "cluster", "service", "task", "task-definition")
                ),
            ),
        ),
        _Scope(
            "BalancersAnywhere", "elasticloadbalancing:Describe* elasticloadbalancing:SetWebAcl", _ANYTHING
        ),
        _Scope(
            "Balancers",
            "elasticloadbalancing:*",
            _arns(
                "elasticloadbalancing",
                *(f"{kind}/{NAME}" for kind in ("listener/app", "loadbalancer/app", "targetgroup")),
            ),
        ),
        _Scope("GroupsAnywhere", "autoscaling:Describe*", _ANYTHING),
        _Scope(
            "Groups", "autoscaling:*", _arns("autoscaling", f"autoScalingGroup:*:autoScalingGroupName/{NAME}")
        ),
        _Scope("TargetsAnywhere", "application-autoscaling:Describe*", _ANYTHING),
        _Scope(
            "TargetsNew",
            "application-autoscaling:RegisterScalableTarget application-autoscaling:TagResource",
            _arns("application-autoscaling", "scalable-target/*"),
            _NEW,
        ),
        _Scope(
            "Targets",
            """application-autoscaling:DeleteScalingPolicy application-autoscaling:DeregisterScalableTarget
            application-autoscaling:ListTagsForResource application-autoscaling:PutScalingPolicy
            application-autoscaling:RegisterScalableTarget application-autoscaling:UntagResource""",
            _arns("application-autoscaling", "scalable-target/*"),
            _OWN,
        ),
    ],
    "deployer-operations": [
        _Scope(
            "IamServiceRoles",
            "iam:CreateServiceLinkedRole",
            ["arn:aws:iam::*:role/aws-service-role/*"],
            {
                "StringEquals": {
                    "iam:AWSServiceName": [
                        "autoscaling.amazonaws.com",
                        "ecs.amazonaws.com",
                        "ecs.application-autoscaling.amazonaws.com",
                        "elasticloadbalancing.amazonaws.com",
                        "wafv2.amazonaws.com",
                    ]
                }
            },
        ),
        # The state and its lock. A deployer cannot read or write the files: the smoke test uses the API.
        _Scope("State", "s3:GetObject s3:PutObject s3:DeleteObject", [f"arn:aws:s3:::{NAME}-tfstate/*"]),
        _Scope("Buckets", "s3:*", [f"arn:aws:s3:::{NAME}"]),
        _Scope("CertificatesNew", "acm:AddTagsToCertificate acm:RequestCertificate", _ANYTHING, _NEW),
        _Scope("Certificates", "acm:*", _arns("acm", "certificate/*"), _OWN),
        # The zone belongs to the operator. These are the types of a certificate's record and of the alias.
        _Scope(
            "Records",
            "route53:ChangeResourceRecordSets",
            [f"arn:aws:route53:::hostedzone/{ZONE}"],
            {"ForAllValues:StringEquals": {"route53:ChangeResourceRecordSetsRecordTypes": ["A", "CNAME"]}},
        ),
        _Scope("Zones", "route53:*", [f"arn:aws:route53:::hostedzone/{ZONE}", "arn:aws:route53:::change/*"]),
        _Scope("ParametersAnywhere", "ssm:DescribeParameters", _ANYTHING),
        # The deployer can replace a secret. Only the tasks' execution role can read it.
        _Scope("Parameters", "ssm:PutParameter", [f"arn:aws:ssm:*:*:parameter/{NAME}"]),
        _Scope("PublicParameters", "ssm:GetParameter", ["arn:aws:ssm:*::parameter/aws/service/ecs/*"]),
        _Scope("RegistryLogin", "ecr:GetAuthorizationToken", _ANYTHING),
        _Scope("Registry", "ecr:*", _arns("ecr", f"repository/{NAME}")),
        _Scope(
            "LogsAnywhere",
            """logs:CreateLogDelivery logs:DeleteLogDelivery logs:DescribeLogGroups
            logs:DescribeResourcePolicies logs:PutResourcePolicy""",
            _ANYTHING,
        ),
        _Scope(
            "Logs",
            "logs:*",
            _arns("logs", *(f"log-group:{group}{NAME}" for group in ("/ecs/", "/vpc/", "aws-waf-logs-"))),
        ),
        # IAM knows no ARN of a subscription.
        _Scope(
            "Subscriptions",
            "sns:GetSubscriptionAttributes sns:SetSubscriptionAttributes sns:Unsubscribe",
            _ANYTHING,
        ),
        _Scope("Topics", "sns:*", _arns("sns", f"{_BILLING_TOPIC}*", NAME)),
        _Scope("AlarmsAnywhere", "cloudwatch:Describe*", _ANYTHING),
        _Scope(
            "Alarms",
            "cloudwatch:*",
            [
                *_arns("cloudwatch", f"alarm:{NAME}", f"alarm:TargetTracking-service/{NAME}"),
                f"arn:aws:cloudwatch::*:dashboard/{NAME}",
            ],
        ),
        _Scope("Account", "freetier:GetAccountPlanState sts:GetCallerIdentity tag:GetResources", _ANYTHING),
    ],
}


def needed(types: set[str]) -> set[str]:
    """The actions that resources of these types need; a type that is not known is an error."""
    return {action for type_ in types for action in RESOURCES[type_].split()}


def actions() -> set[str]:
    """Every action of the policy."""
    lists = [*RESOURCES.values(), *DATA.values(), DEPLOYMENT]
    return {action for actions in lists for action in actions.split()}


def documents(values: Mapping[str, Any]) -> dict[str, str]:
    """The policies by name, as JSON, for an environment with these values of Terraform variables.

    Each statement of the deployer has the needed actions that it takes.
    """
    scopes = [scope for policy in _POLICIES.values() for scope in policy]
    allowing = [scope for scope in scopes if scope.effect == "Allow"]
    named = {pattern for scope in allowing for pattern in scope.actions.split() if not pattern.endswith("*")}
    left = actions() - named
    statements: dict[str, list[dict[str, Any]]] = {}
    for name, policy in _POLICIES.items():
        statements[name] = []
        for scope in policy:
            patterns = scope.actions.split()
            beginnings = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
            taken = {action for action in left if action.startswith(beginnings)}
            left -= taken
            statements[name].append(_statement(scope, taken | (actions() & set(patterns))))
    if left:
        raise ValueError(f"no statement takes {sorted(left)}")
    statements["buckets"] = [
        _statement(_Scope("Buckets", "", [f"arn:aws:s3:::{NAME}"]), set(BUCKETS.split()))
    ]
    return {
        name: _with(values, json.dumps({"Version": "2012-10-17", "Statement": entries}, indent=2) + "\n")
        for name, entries in statements.items()
    }


def _with(values: Mapping[str, Any], document: str) -> str:
    for placeholder in (_PROJECT, _TASK_ROLE, _BILLING_TOPIC):
        document = document.replace(placeholder, str(values[placeholder.strip("<>")]))
    return document.replace(ZONE, str(values.get("zone_id") or ZONE))


def _statement(scope: _Scope, taken: set[str]) -> dict[str, Any]:
    return {
        "Sid": scope.sid,
        "Effect": scope.effect,
        "Action": sorted(taken),
        "Resource": scope.resources if len(scope.resources) > 1 else scope.resources[0],
        **({"Condition": scope.condition} if scope.condition else {}),
    }
