"""Whether an audit shows what was published: prints each arm's median rank, its ratio to the control's, and the verdict as JSON lines.

    python benchmarks/audit_findings.py deploy/tasks/audit_text_selection.yaml --data text_selection.jsonl.gz
    python benchmarks/audit_findings.py deploy/tasks/audit_next_word_irc.yaml --data irc_chat.jsonl.gz

Claims that are checked: `memorised` (control: inserted canaries rank above held-out ones, p < 0.01), `ordered` (control: more devices and
copies leak more, p < 0.01), `more_than_doubled` (a treatment: the interval of its rank ratio lies above 2).
"""

import argparse
import json
from pathlib import Path

from contract import task
from tutti import audit
from tutti.audit import specification


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("audit", type=Path)
    options.add_argument("--data")
    options.add_argument("--store", default=".tutti")
    options.add_argument("--rounds", type=int)
    chosen = options.parse_args()
    mapping = specification.to_mapping(specification.read(chosen.audit))
    spec = task.parse_mapping(mapping["task"])
    spec = task.replace(
        spec,
        **({"data": {"source": chosen.data}} if chosen.data else {}),
        **({"rounds": chosen.rounds} if chosen.rounds else {}),
    )
    result = audit.run(specification.parse_mapping({**mapping, "task": task.to_mapping(spec)}), store=chosen.store)
    for row in result["arms"]:
        grid, ratio = row["grid"], row["grid"]["rank_ratio"]
        trend = grid["trend"] or {"p_value": None, "spearman": None}
        print(
            json.dumps(
                {
                    "arm": row["name"],
                    "epsilon": row["privacy"]["epsilon"],
                    "median_rank": grid["median_rank"],
                    "references": grid["references"],
                    "rank_ratio": ratio,
                    "more_than_doubled": None if ratio is None else ratio["low"] > 2,
                    "memorised_p": grid["permutation_p_value"],
                    "ordered_p": trend["p_value"],
                    "extracted": grid["extracted"],
                }
            )
        )
    print(json.dumps({"verdict": result["verdict"], "seconds": result["seconds"], "files": result["files"]}))


if __name__ == "__main__":
    main()
