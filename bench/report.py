"""Results as a page for people: tables with paired ratios, and plots beside them."""

import statistics
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("svg")
# The same figures give the same file.
matplotlib.rcParams["svg.hashsalt"] = "riverrun"
from matplotlib import pyplot  # noqa: E402

from measure import MANY, PAYLOAD_SHARE  # noqa: E402

OURS = "riverrun"
# Distinct in grey and for colour-blind eyes (Okabe and Ito).
COLOURS = {"riverrun": "#0072b2", "libtorrent": "#e69f00", "aria2": "#009e73", "plain loop": "#999999"}


def by_client(runs, case):
    found = {}
    for run in runs:
        if run["case"] == case:
            found.setdefault(run["client"], {})[run["turn"]] = run
    return found


def paired(clients, client, key):
    """Ours by theirs, both of the same turn: median, least, most."""
    ours, theirs = clients[OURS], clients[client]
    ratios = sorted(ours[turn][key] / theirs[turn][key] for turn in ours if turn in theirs and theirs[turn][key])
    return statistics.median(ratios), ratios[0], ratios[-1]


def median(clients, client, key):
    return statistics.median(run[key] for run in clients[client].values())


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def ratio_text(ratio):
    return f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})"


def rows_of(clients, keys):
    """A row a client: medians, and how ours compares by each key."""
    rows = []
    for client in sorted(clients, key=lambda name: (name != OURS, name)):
        row = [client]
        for key, digits in keys:
            value = f"{median(clients, client, key):.{digits}f}"
            row.append(value if client == OURS else f"{value}; {ratio_text(paired(clients, client, key))}")
        rows.append(row)
    return rows


def bars(results, name, cases, key, label, out):
    """One group of bars a case, one bar a client; the line on each goes from the least to the most."""
    runs = results[name]["runs"]
    clients = sorted({run["client"] for run in runs}, key=lambda client: (client != OURS, client))
    figure, axes = pyplot.subplots(figsize=(6.4, 2.8), layout="constrained")
    width = 0.8 / len(clients)
    for n, client in enumerate(clients):
        found = [[run[key] for run in runs if (run["case"], run["client"]) == (case, client)] for case in cases]
        middle = [statistics.median(values) if values else 0 for values in found]
        low = [m - min(values) if values else 0 for m, values in zip(middle, found)]
        high = [max(values) - m if values else 0 for m, values in zip(middle, found)]
        places = [case + (n - (len(clients) - 1) / 2) * width for case in range(len(cases))]
        colour = COLOURS.get(client, "#cc79a7")
        axes.bar(places, middle, width * 0.92, yerr=[low, high], label=client, color=colour, ecolor="#444444", capsize=2)
    axes.set_xticks(range(len(cases)), [textwrap.fill(case, 12) for case in cases])
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(clients), frameon=False, fontsize="small")
    path = out / f"bench-{name}.svg"
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    # The drawing library leaves blanks at ends of lines.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    return f"![{label}]({path.name})"


def files_section(results, name, title, out):
    runs = results[name]["runs"]
    cases = [case for case in ["v1", "v2", "hybrid"] if by_client(runs, case)]
    parts = [f"## {title}", made_text(results, name)]
    parts.append(bars(results, name, cases, "rate", "GB/s", out))
    rows = []
    for case in cases:
        keys = [("rate", 2), ("cpu_s_per_gb", 2)]
        rows += [[case, *row] for row in rows_of(by_client(runs, case), keys)]
    parts.append(table(["metadata", "client", "GB/s", "CPU s/GB"], rows))
    return "\n\n".join(parts)


def pair_section(results, out):
    clients = by_client(results["pair"]["runs"], "pair")
    keys = [("rate", 3), ("leecher_cpu_s_per_gb", 2), ("seeder_cpu_s_per_gb", 2), ("leecher_peak_mib", 0), ("seeder_peak_mib", 0)]
    head = ["client", "GB/s", "leecher's CPU s/GB", "seeder's CPU s/GB", "leecher's memory, MiB", "seeder's memory, MiB"]
    text = (
        "One seeder and one leecher of the same client over TCP, on links as fast as the machine. Memory is the most "
        "that was seen of anonymous memory."
    )
    plot = bars(results, "pair", ["pair"], "leecher_cpu_s_per_gb", "leecher's CPU s/GB", out)
    return "\n\n".join(["## A seeder and a leecher", made_text(results, "pair"), text, plot, table(head, rows_of(clients, keys))])


def many_section(results, out):
    runs = results["many"]["runs"]
    clients, wanted = by_client(runs, "many"), runs[0]["rate"] * runs[0]["wall_s"]
    text = (
        f"One leecher of {wanted:.2f} GB and {MANY[0]} seeders of the same client over TCP. Each seeder's uplink is held by a "
        f"token bucket at {MANY[1]} Mbit/s, the leecher's link is free. The share is that of all that the uplinks together can carry, "
        f"from the moment when the leecher is started on: of each uplink {PAYLOAD_SHARE:.4f} is payload at most, the rest "
        "the frames' headers and those of blocks."
    )
    plot = bars(results, "many", ["many"], "share", "share of the uplinks", out)
    keys = [("share", 3), ("leecher_cpu_s_per_gb", 2), ("seeder_cpu_s_per_gb", 2), ("leecher_peak_mib", 0)]
    head = ["client", "share", "leecher's CPU s/GB", "seeders' CPU s/GB", "leecher's memory, MiB"]
    parts = ["## Many seeders", made_text(results, "many"), text, plot, table(head, rows_of(clients, keys))]
    return "\n\n".join(parts)


def crowd_section(results, out):
    runs = results["crowd"]["runs"]
    cases = list(dict.fromkeys(run["case"] for run in runs))
    text = (
        "All leechers come at the same moment to one seeder; uplinks are held by token buckets, at 20 Mbit/s where "
        "nothing else is said. The bound is the time that all uplinks together need to carry a copy for each, or the "
        "seeder's for one; TCP carries some 0.955 of such a rate as payload, so that 1.05 is the least there can be. "
        "Copies are what went over the seeder's link, with headers."
    )
    keys = [("slowest_by_bound", 3), ("mean_by_bound", 3), ("seeder_copies", 2), ("leecher_cpu_s", 2)]
    head = ["leechers", "client", "slowest / bound", "mean / bound", "seeder's copies", "leecher's CPU s"]
    rows = [[case, *row] for case in cases for row in rows_of(by_client(runs, case), keys)]
    plot = bars(results, "crowd", cases, "slowest_by_bound", "slowest / bound", out)
    return "\n\n".join(["## Crowds", made_text(results, "crowd"), text, plot, table(head, rows)])


def made_text(results, name):
    made = results[name]["made"]
    return (
        f"{made['program']}, on {made['cores']} cores of {made['processor']}, Linux {made['kernel']}, "
        f"{made['rounds']} round{'s' if made['rounds'] > 1 else ''}."
    )


def write(results, out):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    parts = [
        "# Measurements",
        "Made by `bench/run`, which builds the program, runs it and others in turn, and writes this page; nothing here "
        "is by hand. Each part says what it was made with.",
        "Figures are medians. Behind those of another client stands, in that figure, **ours by theirs**: the median "
        "over the rounds of the ratio within one round, and the least and the most. The machine may have had other "
        "work: ratios and CPU seconds say more than rates. All data is in the page cache. Where the time goes is in "
        "[profile.md](profile.md).",
    ]
    if "create" in results:
        parts.append(files_section(results, "create", "Creating a torrent", out))
    if "verify" in results:
        parts.append(files_section(results, "verify", "Verifying files", out))
    if "pair" in results:
        parts.append(pair_section(results, out))
    if "many" in results:
        parts.append(many_section(results, out))
    if "crowd" in results:
        parts.append(crowd_section(results, out))
    (out / "bench.md").write_text("\n\n".join(parts) + "\n")
