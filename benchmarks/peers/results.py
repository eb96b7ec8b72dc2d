"""The results file: JSON lines, appended run by run, so that a killed comparison goes on.

What lives here: reading and appending. What must not: what the figures mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.plan import Cell, Step


class Results:
    """One file; a line that was cut off by a kill is left out and written over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[dict[str, Any]] = []
        if path.exists():
            self._read()

    def _read(self) -> None:
        good = 0
        with self._path.open("rb") as file:
            for raw in file:
                try:
                    self._lines.append(json.loads(raw))
                except ValueError:
                    break
                good += len(raw)
        if good < self._path.stat().st_size:
            with self._path.open("r+b") as file:
                file.truncate(good)

    def add(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Append and hand to the kernel at once."""
        line = {"kind": kind, **fields}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._lines.append(line)

    def add_run(self, step: Step, result: Mapping[str, Any]) -> None:
        """Of one step, as it ended."""
        where = {"cell": step.cell.key(), "peer": step.peer.name, "round": step.round}
        self.add("run", {**where, **result})

    def has(self, step: Step) -> bool:
        """Done, or known to be impossible; what failed is tried again."""
        return any(
            line["round"] == step.round and line["status"] in ("ok", "cannot")
            for line in self._of(step.cell, step.peer.name)
        )

    def runs(self, cell: Cell, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Finished runs of a cell by client."""
        return {
            name: [line for line in self._of(cell, name) if line["status"] == "ok"]
            for name in names
        }

    def notes(self, cell: Cell, names: Sequence[str]) -> dict[str, str]:
        """Why a client has no run in a cell."""
        notes = {}
        for name in names:
            lines = self._of(cell, name)
            if lines and not any(line["status"] == "ok" for line in lines):
                last = lines[-1]
                cannot = last["status"] == "cannot"
                notes[name] = "it cannot do this" if cannot else f"failed: {last['why']}"
        return notes

    def conditions(self) -> list[dict[str, Any]]:
        """Of every start, oldest first."""
        return [line for line in self._lines if line["kind"] == "conditions"]

    def _of(self, cell: Cell, name: str) -> list[dict[str, Any]]:
        key = cell.key()
        return [
            line
            for line in self._lines
            if line["kind"] == "run" and line["peer"] == name and line["cell"] == key
        ]
