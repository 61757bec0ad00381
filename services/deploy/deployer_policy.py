"""The deployer's IAM policy: what each kind of resource needs, and on what it may be done."""

from __future__ import annotations

import json
from collections import defaultdict

# Names of this project: `day02` and, in production, `day02-prod`.
NAME = "day02*"

# What the provider calls to make, read, change, tag and delete a resource of each type.
RESOURCES: dict[str, str] = {
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
    "aws_lb": """
        ec2:DescribeNetworkInterfaces elasticloadbalancing:AddTags elasticloadbalancing:CreateLoadBalancer
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
        elasticloadbalancing:SetWebACL wafv2:AssociateWebACL wafv2:DisassociateWebACL wafv2:GetWebACL
        wafv2:GetWebACLForResource""",
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

# What a deployment does beside Terraform: state, image, secrets, the role of ECS itself, logs, clearing up.
# iam:DetachRolePolicy takes the managed policies off an instance role from before that role had its own.
DEPLOYMENT = """
    ecr:BatchCheckLayerAvailability ecr:BatchGetImage ecr:CompleteLayerUpload ecr:DescribeImages
    ecr:GetAuthorizationToken ecr:InitiateLayerUpload ecr:PutImage ecr:UploadLayerPart
    ecs:DeleteTaskDefinitions ecs:DescribeTasks ecs:ListTaskDefinitions ecs:ListTasks
    elasticloadbalancing:DescribeTargetHealth iam:CreateServiceLinkedRole iam:DetachRolePolicy
    logs:DescribeLogStreams logs:FilterLogEvents logs:GetLogEvents
    s3:DeleteObject s3:GetObject s3:ListBucket s3:PutObject
    ssm:DescribeParameters ssm:GetParameters ssm:PutParameter
    tag:GetResources"""

# Where an action can be held to the project's own resources, it is. The first pattern that fits decides.
_ROLES = [f"arn:aws:iam::*:role/{NAME}", "arn:aws:iam::*:role/s3_access"]
_ANYTHING = ["*"]
_SCOPES: list[tuple[str, str, list[str]]] = [
    ("Iam service roles", "iam:CreateServiceLinkedRole", ["arn:aws:iam::*:role/aws-service-role/*"]),
    ("Iam", "iam:", [*_ROLES, f"arn:aws:iam::*:instance-profile/{NAME}"]),
    # The state and its lock. A deployer never touches the data: the smoke test goes through the API.
    ("State", "s3:GetObject s3:PutObject s3:DeleteObject", [f"arn:aws:s3:::{NAME}-tfstate/*"]),
    ("Buckets", "s3:", [f"arn:aws:s3:::{NAME}"]),
    ("Parameters anywhere", "ssm:DescribeParameters", _ANYTHING),
    (
        "Parameters",
        "ssm:",
        [f"arn:aws:ssm:*:*:parameter/{NAME}", "arn:aws:ssm:*::parameter/aws/service/ecs/*"],
    ),
    ("Registry login", "ecr:GetAuthorizationToken", _ANYTHING),
    ("Registry", "ecr:", [f"arn:aws:ecr:*:*:repository/{NAME}"]),
    (
        "Logs anywhere",
        """logs:CreateLogDelivery logs:DeleteLogDelivery logs:DescribeLogGroups logs:DescribeResourcePolicies
        logs:PutResourcePolicy""",
        _ANYTHING,
    ),
    (
        "Logs",
        "logs:",
        [f"arn:aws:logs:*:*:log-group:{group}{NAME}" for group in ("/ecs/", "/vpc/", "aws-waf-logs-")],
    ),
    # Nothing but the topic's name and a made-up id names a subscription.
    (
        "Subscriptions",
        "sns:Unsubscribe sns:SetSubscriptionAttributes sns:GetSubscriptionAttributes",
        _ANYTHING,
    ),
    ("Topics", "sns:", ["arn:aws:sns:*:*:BillingAlarm*", f"arn:aws:sns:*:*:{NAME}"]),
    ("Alarms anywhere", "cloudwatch:DescribeAlarms", _ANYTHING),
    (
        "Alarms",
        "cloudwatch:",
        [
            f"arn:aws:cloudwatch:*:*:alarm:{NAME}",
            f"arn:aws:cloudwatch:*:*:alarm:TargetTracking-service/{NAME}",
            f"arn:aws:cloudwatch::*:dashboard/{NAME}",
        ],
    ),
    (
        "Ecs anywhere",
        """ecs:DeleteTaskDefinitions ecs:DeregisterTaskDefinition ecs:DescribeTaskDefinition
        ecs:ListTaskDefinitions ecs:ListTasks ecs:RegisterTaskDefinition""",
        _ANYTHING,
    ),
    (
        "Ecs",
        "ecs:",
        [
            f"arn:aws:ecs:*:*:{kind}/{NAME}"
            for kind in ("capacity-provider", "cluster", "service", "task", "task-definition")
        ],
    ),
    ("Balancers anywhere", "elasticloadbalancing:Describe", _ANYTHING),
    (
        "Balancers",
        "elasticloadbalancing:",
        [
            f"arn:aws:elasticloadbalancing:*:*:{kind}/{NAME}"
            for kind in ("listener/app", "loadbalancer/app", "targetgroup")
        ],
    ),
    ("Groups anywhere", "autoscaling:Describe", _ANYTHING),
    ("Groups", "autoscaling:", [f"arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/{NAME}"]),
    ("Others", "", _ANYTHING),  # ids that AWS makes up, or no resource at all
]

# A resource of another project, tagged as such, cannot be deleted.
_OWN = {"StringEqualsIfExists": {"aws:ResourceTag/project_name": "day02"}}


def needed(types: set[str]) -> set[str]:
    """The actions that resources of these types need; a type that is not known is an error."""
    return {action for type_ in types for action in RESOURCES[type_].split()}


def actions() -> set[str]:
    """Every action of the policy."""
    lists = [*RESOURCES.values(), *DATA.values(), DEPLOYMENT]
    return {action for actions in lists for action in actions.split()}


def document() -> str:
    """The policy, each action once, held to what it can be held to."""
    grouped: defaultdict[tuple[str, bool], list[str]] = defaultdict(list)
    for action in sorted(actions()):
        scope = next(
            name for name, patterns, _ in _SCOPES if action.startswith(tuple(patterns.split() or [""]))
        )
        grouped[scope, action.startswith("ec2:Delete") and action != "ec2:DeleteTags"].append(action)
    statements = [
        {
            "Sid": name.title().replace(" ", "") + ("Deleted" if deletes else ""),
            "Effect": "Allow",
            "Action": grouped[name, deletes],
            "Resource": resources if len(resources) > 1 else resources[0],
            **({"Condition": _OWN} if deletes else {}),
        }
        for name, _, resources in _SCOPES
        for deletes in (False, True)
        if (name, deletes) in grouped
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2) + "\n"
