"""The figures of docs/scale.md: what one task carries as measured, and what AWS costs by its prices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill

from bench.report import Result, Results, number
from deploy import prices as listed

# --- what one task carries

_PLAN, _UNCHECKED = "upload plan", "`/download` without the check"
_CHECKED, _SMALL, _PAGE = "`/download` with the check", "upload of 4 KiB", "page of 1,000 names"
_REQUESTS = {_PLAN: "1a", _UNCHECKED: "1b", _CHECKED: "2", _SMALL: "10", _PAGE: "3"}
_TRANSFERS = {
    "raw upload": "5b",
    "raw upload, TLS to S3": "5d",
    "form upload": "6b",
    "download": "7a",
    "download, TLS to S3": "7b",
}
#: Requests per second that S3 promises for a prefix.
_READS, _WRITES = 5500, 3500
#: Environment, its least number of instances, their type, and the part of a core that is each one's baseline.
_STACKS = (("day02", 2, "t2.micro", 0.1), ("prod", 2, "t3.small", 0.4))
GIB_OF_TERABYTE = 931.3


def blocks(results: Results) -> Mapping[str, str]:
    """The blocks of the page by their names."""
    return {"tasks": tasks(results), "prices": prices(), "costs": costs()}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def _paragraph(text: str) -> list[str]:
    return [fill(text, 125), ""]


def tasks(results: Results) -> str:
    """What one task carries. Figures are rounded first, so that each result follows from what is shown."""
    requests = {name: work for name, key in _REQUESTS.items() if (work := results.work(key))}
    transfers = {name: work for name, key in _TRANSFERS.items() if (work := results.work(key))}
    rows = []
    for name, work in requests.items():
        cpu = round(work.ours("cpu"), 2)
        rate = (
            f"1,000 ms ÷ {cpu:.2f} ms = {_rate(work):,.0f}" if _in_sequence(work) else f"{_rate(work):,.0f}"
        )
        hours = f"{cpu:.2f} ms × 1,000,000 ÷ 3,600,000 = {cpu / 3.6:.2f} core-hours"
        rows.append((name, rate, f"{cpu:.2f} ms", hours))
    lines = [results.run, ""]
    lines += _table(("one task", "per second", "CPU each", "CPU for a million"), rows)
    rows = []
    for name, work in transfers.items():
        gib = (work.size or 0) / 2**30
        cpu = round(work.ours("cpu") / gib, 2)
        hours = f"{cpu:.2f} s × {GIB_OF_TERABYTE} ÷ 3,600 = {cpu * GIB_OF_TERABYTE / 3600:.2f} core-hours"
        rows.append((name, number(1024 * gib / work.ours("wall"), 0), f"{cpu:.2f} s", hours))
    lines += _table(("one task", "MiB per second", "CPU for a GiB", "CPU for a terabyte"), rows)
    return "\n".join([*lines, *_consequences(results, requests), ""])


def _in_sequence(work: Result) -> bool:
    """Whether one client asked for one thing after another, so that its rate is not the task's."""
    return all(metric.key != "rate" for metric in work.metrics)


def _rate(work: Result) -> float:
    """Requests per second of one task; from the CPU of one core where one client asked in sequence."""
    return 1000 / round(work.ours("cpu"), 2) if _in_sequence(work) else round(work.ours("rate"))


def _consequences(results: Results, requests: Mapping[str, Result]) -> Iterator[str]:
    if memory := results.work("8a"):
        yield (
            f"- Memory of the worker: {memory.ours('many'):.0f} MiB at most with 16 uploads at once, "
            f"{memory.ours('huge'):.0f} MiB with one of {memory.metric('huge').label}."
            + (
                f" gunicorn's master and the worker together: {memory.ours('together'):.0f} MiB."
                if memory.has("together")
                else ""
            )
        )
    if idle := results.work("8b"):
        yield f"- {idle.title}: {idle.ours('peak'):.0f} MiB at most."
    if containers := results.work("11"):
        two, four = containers.ours("linear2"), containers.ours("linear4")
        yield f"- Two tasks carried {two:.2f} of twice the rate of one, four {four:.2f} of four times."
    for what, limit, name in (("reads", _READS, _CHECKED), ("writes", _WRITES, _SMALL)):
        if name in requests:
            rate = _rate(requests[name])
            yield (
                f"- S3's {what} of one prefix: {limit:,} ÷ {rate:,.0f} ({name}) = {limit / rate:.1f} tasks."
            )
    for environment, instances, kind, cores in _STACKS:
        for name in (_CHECKED, _UNCHECKED):
            if name in requests:
                cpu = round(requests[name].ours("cpu"), 2)
                yield (
                    f"- {environment}, at the CPU baseline (sustained): {instances} {kind} × {cores:g} core "
                    f"÷ {cpu:.2f} ms = {instances * cores * 1000 / cpu:,.0f} per second ({name})."
                )


# --- what AWS costs, in USD in eu-west-1

HOURS = listed.HOURS
T2_MICRO, T3_SMALL = listed.INSTANCES["t2.micro"], listed.INSTANCES["t3.small"]
BALANCER, LCU = listed.BALANCER, 0.008
ADDRESS = listed.ADDRESS
DISK_GB = listed.DISK_GB
STORAGE_GB = 0.023
WRITE, READ = 0.005 / 1000, 0.0004 / 1000
INTERNET_GB, FREE_GB = 0.09, 100
ACL, RULE, INSPECTION = listed.ACL, listed.RULE, 0.60 / 1e6
ALARM, INSIGHT = listed.ALARM, 0.30
#: Metrics of alarms: of the modules, and those that target tracking and managed scaling make themselves.
ALARMS = {"day02": 2, "prod": 16}
PART = 8 * 2**20
FILE = 10**9


def prices() -> str:
    """The prices that count."""
    rows = [
        ("t2.micro, t3.small", f"{T2_MICRO}, {T3_SMALL} an hour", "[EC2][ec2]"),
        ("Application Load Balancer", f"{BALANCER} an hour, {LCU} an LCU-hour", "[ELB][elb]"),
        ("public IPv4 address", f"{ADDRESS} an hour", "[VPC][vpc]"),
        ("gp3 disk", f"{DISK_GB} a GB-month", "[EBS][ebs]"),
        ("S3 storage, Standard", f"{STORAGE_GB} a GB-month", "[S3][s3]"),
        ("S3 PUT, COPY, POST, LIST", f"{WRITE * 1000:g} a thousand", "[S3][s3]"),
        ("S3 GET, HEAD", f"{READ * 1000:g} a thousand", "[S3][s3]"),
        ("data to the Internet", f"{INTERNET_GB} a GB, after {FREE_GB} GB a month free", "[EC2][ec2]"),
        (
            "web ACL, rule, requests (WAF, in prod)",
            f"{ACL:g} and {RULE:g} a month, {INSPECTION * 1e6:.2f} a million",
            "[WAF][waf]",
        ),
        ("metric of an alarm", f"{ALARM:.2f} a month", "[CloudWatch][cloudwatch]"),
        ("metric of Container Insights (prod)", f"{INSIGHT:.2f} a month", "[CloudWatch][cloudwatch]"),
    ]
    return "\n".join(_table(("what", "price", "page"), rows))


def costs() -> str:
    """The tables of costs."""
    lines = ["### A month without traffic", "", *_standing()]
    lines += ["### A million requests", "", *_a_million()]
    lines += ["### A terabyte", "", *_a_terabyte()]
    return "\n".join(lines)


def _standing() -> list[str]:
    """Figures are rounded first here too, so that the sums are those of what is shown."""
    balancer = round(BALANCER * HOURS, 2)
    addresses = round(4 * ADDRESS * HOURS, 2)
    disks = round(2 * 30 * DISK_GB, 2)
    instances = {"day02": round(2 * T2_MICRO * HOURS, 2), "prod": round(2 * T3_SMALL * HOURS, 2)}
    firewall = {"day02": 0.0, "prod": ACL + 2 * RULE}
    alarms = {name: count * ALARM for name, count in ALARMS.items()}
    sums = {
        name: balancer + addresses + disks + instances[name] + firewall[name] + alarms[name]
        for name in instances
    }
    rows = [
        (
            "instances",
            f"2 × {T2_MICRO} × {HOURS} = {instances['day02']:.2f}",
            f"2 × {T3_SMALL} × {HOURS} = {instances['prod']:.2f}",
        ),
        ("balancer", f"{BALANCER} × {HOURS} = {balancer:.2f}", f"{balancer:.2f}"),
        (
            "addresses, 2 of instances and 2 of the balancer",
            f"4 × {ADDRESS} × {HOURS} = {addresses:.2f}",
            f"{addresses:.2f}",
        ),
        ("disks", f"2 × 30 × {DISK_GB} = {disks:.2f}", f"{disks:.2f}"),
        ("firewall", "–", f"{ACL:g} + 2 × {RULE:g} = {firewall['prod']:.2f}"),
        (
            "alarms",
            *(f"{ALARMS[name]} metrics × {ALARM:.2f} = {alarms[name]:.2f}" for name in ("day02", "prod")),
        ),
        ("**sum**", f"**{sums['day02']:.2f}**", f"**{sums['prod']:.2f}**"),
    ]
    more = (instances["prod"], 2 * ADDRESS * HOURS, disks)
    return [
        *_table(("", "day02", "prod, at its least"), rows),
        *_paragraph(
            f"Prod at its most has four instances: {' + '.join(f'{each:.2f}' for each in more)} = "
            f"{sum(more):.2f} more."
        ),
        *_paragraph(
            "Alarms cost the same with and without traffic. So do the metrics of Container Insights in prod; "
            "their number grows with the services and tasks of the cluster, and they are not in the sum. "
            "Logs, flow logs and the bucket of access logs depend on traffic and are not in the sum."
        ),
    ]


def _a_million() -> list[str]:
    def row(name: str, s3: float, in_and_out_gb: float, to_internet_gb: float) -> tuple[str, ...]:
        parts = s3, in_and_out_gb * LCU, to_internet_gb * INTERNET_GB
        total = sum(round(part, 2) for part in parts)
        return name, *(f"{part:.2f}" for part in parts), f"{total:.2f}", f"{total + INSPECTION * 1e6:.2f}"

    rows = [
        row("small upload plans", 0, 2, 1),
        row("plans in parts, a POST each", 1e6 * WRITE, 2, 1),
        row("unchecked downloads", 0, 2, 1),
        row("checked downloads, a HEAD each", 1e6 * READ, 2, 1),
        row("pages of a listing, a LIST and 20 kB each", 1e6 * WRITE, 21, 20),
        row("uploads of 4 kB through the service, a PUT each", 1e6 * WRITE, 6, 1),
    ]
    worst = 1e6 / 25 / 3600
    head = ("a million", "S3", "balancer", "Internet", "day02", f"prod, with {INSPECTION * 1e6:.2f} of WAF")
    return [
        *_paragraph(
            "Each answer is taken as 1 kB, each exchange as 2 kB. The balancer bills 2 GB as 2 LCU-hours, "
            f"{2 * LCU:g}; if no client kept its connection it would be 1,000,000 ÷ 25 ÷ 3,600 = {worst:.1f} "
            f"LCU-hours, {worst * LCU:.3f}. Answers to the Internet: 1 GB, {INTERNET_GB}."
        ),
        *_table(head, rows),
        *_paragraph(
            f"The client's own requests to S3 come on top: {1e6 * WRITE:.2f} for a million uploads, "
            f"{1e6 * READ:.2f} for a million downloads, and the bytes. The CPU is in the table above; within "
            "the baseline of the instances it costs nothing more."
        ),
    ]


def _a_terabyte() -> list[str]:
    parts = -(-FILE // PART)
    calls = parts + 3
    files = 10**12 // FILE
    gb = 1000
    through = f"{files:,} requests, {files * WRITE:.3f}"
    through += f"; balancer {gb:,} GB = {gb:,} LCU-hours = {gb * LCU:.2f}"
    download = (gb - FREE_GB) * INTERNET_GB
    rows = [
        (
            "upload",
            f"{files * calls:,} requests, {files * calls * WRITE:.3f}",
            through,
        ),
        ("kept for a month", f"{gb:,} × {STORAGE_GB} = {gb * STORAGE_GB:.2f}", f"{gb * STORAGE_GB:.2f}"),
        (
            "download to the Internet",
            f"{files:,} requests, {files * READ:.4f}; ({gb:,} − {FREE_GB}) × {INTERNET_GB} = {download:.2f}",
            f"the same {download:.2f}, and {gb * LCU:.2f} of the balancer",
        ),
    ]
    return [
        *_paragraph(
            f"In files of 1 GB. Direct to S3 each file has {parts} parts of 8 MiB. With its start, the "
            f"list of its parts and its completion these are {calls} requests."
        ),
        *_table(("a terabyte", "direct to S3, by presigned URL", "through the service"), rows),
    ]
