"""The picture for the README: for each storm, who is wrong afterwards. Plain SVG, readable on light and on dark."""

from __future__ import annotations

from load.headline.storms import Outcome

WIDTH, ROW, TOP, LEFT, BAR = 760, 62, 92, 190, 20
STYLE = """
    text { font: 15px system-ui, sans-serif; fill: #1f2933 }
    .head { font-size: 17px; font-weight: 600 }
    .quiet { fill: #52606d; font-size: 13px }
    .page { fill: #ffffff }
    .track { fill: #eceff3 }
    .naive { fill: #b3401f }
    .ours { fill: #1f6f50 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e8ecf1 }
      .quiet { fill: #a9b4c0 }
      .page { fill: #14181d }
      .track { fill: #2a3038 }
      .naive { fill: #f08a66 }
      .ours { fill: #5cc79a }
    }
"""


def picture(outcomes: list[Outcome]) -> str:
    """Two bars to a storm: the naive handler's and ours."""
    customers = outcomes[0].customers
    height = TOP + ROW * len(outcomes) + 12
    told = "; ".join(f"{one.storm}: naive {len(one.naive_wrong)}, Ballast {len(one.ours_wrong)}" for one in outcomes)
    rows = "\n".join(_row(number, outcome) for number, outcome in enumerate(outcomes))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"
  role="img" aria-labelledby="title desc">
  <title id="title">Customers left with a wrong subscription after a storm of Stripe events</title>
  <desc id="desc">Of {customers} customers in each storm, wrong afterwards. {told}.</desc>
  <style>{STYLE}  </style>
  <rect class="page" width="{WIDTH}" height="{height}" rx="8"/>
  <text class="head" x="24" y="36">Left with a wrong subscription, of {customers} who upgrade as the cycle ends</text>
  <rect class="naive" x="24" y="54" width="14" height="14" rx="3"/>
  <text class="quiet" x="46" y="66">the usual webhook handler</text>
  <rect class="ours" x="236" y="54" width="14" height="14" rx="3"/>
  <text class="quiet" x="258" y="66">Ballast</text>
{rows}
</svg>
"""


def _row(number: int, outcome: Outcome) -> str:
    top = TOP + ROW * number
    full = WIDTH - LEFT - 90
    bars = []
    for line, (name, wrong) in enumerate((("naive", outcome.naive_wrong), ("ours", outcome.ours_wrong))):
        y = top + line * (BAR + 4)
        width = full * len(wrong) / outcome.customers
        bars.append(
            f'  <rect class="track" x="{LEFT}" y="{y}" width="{full}" height="{BAR}" rx="3"/>\n'
            # Nobody wrong is a thin line, so that it is seen that there was a bar to draw.
            f'  <rect class="{name}" x="{LEFT}" y="{y}" width="{max(width, 3):.0f}" height="{BAR}" rx="3"/>\n'
            f'  <text x="{LEFT + full + 12}" y="{y + 15}">{len(wrong)}</text>'
        )
    label = f'  <text x="24" y="{top + BAR + 7}">{outcome.storm}</text>'
    return "\n".join([label, *bars])
