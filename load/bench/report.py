"""The table of docs/performance.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from load.bench.cases import Case
from load.bench.generator import Measured, WrongAnswer


@dataclass
class Results:
    runs: dict[str, dict[str, list[Measured]]] = field(default_factory=dict)
    memory_mb: dict[str, float] = field(default_factory=dict)
    buffers: dict[int, int] = field(default_factory=dict)

    def add(self, case: Case, server: str, measured: Measured) -> None:
        self.runs.setdefault(case.name, {}).setdefault(server, []).append(measured)

    def insist_on_equal_answers(self, case: Case) -> None:
        """A floor that answers with less is no floor. Raises WrongAnswer beyond a tenth, and 100 bytes."""
        ours, floor = (self.runs[case.name][server][-1].body_bytes for server in ("service", "floor"))
        if abs(ours - floor) > 100 + floor / 10:
            raise WrongAnswer(f"{case.name}: the service answers with {ours} bytes, the floor with {floor}")


def ratio(ours: list[Measured], theirs: list[Measured]) -> float:
    """Median over the rounds of ours / theirs, each round against its own neighbour in time."""
    return median(mine.rate / other.rate for mine, other in zip(ours, theirs, strict=True))


def render(results: Results, machine: str) -> str:
    lines = [
        f"{machine}. Medians over {len(next(iter(results.runs.values()))['service'])} rounds; ratios pair by pair.",
        "",
        "| case | floor req/s | unprotected ORM req/s | service req/s | p50 ms | p99 ms | server CPU us/request |"
        " statements | of the floor | of the ORM route |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, runs in results.runs.items():
        ours = runs["service"]
        figures = {server: median(each.rate for each in measured) for server, measured in runs.items()}
        p50, p99 = (median(each.percentile(share) for each in ours) for share in (0.5, 0.99))
        cpu, floor_cpu = (median(each.cpu_us for each in runs[server]) for server in ("service", "floor"))
        lines.append(
            f"| {name} | {figures['floor']:,.0f} | {figures['unprotected']:,.0f} | {figures['service']:,.0f} "
            f"| {p50:.1f} | {p99:.1f} | {cpu:,.0f} (floor {floor_cpu:,.0f}) "
            f"| {median(each.statements for each in ours):.1f} "
            f"| {ratio(ours, runs['floor']):.2f} | {ratio(ours, runs['unprotected']):.2f} |"
        )
    lines += [
        "",
        "Resident memory after the runs: "
        + ", ".join(f"{name} {size:.0f} MB" for name, size in results.memory_mb.items())
        + ".",
        "",
        "Buffers that one page of 50 readings touches: "
        + ", ".join(f"{size:,} readings: {buffers}" for size, buffers in results.buffers.items())
        + ".",
    ]
    return "\n".join(lines)


def write_between_markers(path: Path, name: str, table: str) -> None:
    """`name` is of the markers, `<!-- name -->` and `<!-- /name -->`."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = path.read_text()
    before, rest = text.split(begin, 1)
    _, after = rest.split(end, 1)
    path.write_text(f"{before}{begin}\n{table}\n{end}{after}")
