"""Small breaks of the engine, planted one by one: each must be caught within 1,000 schedules.

``python -m tests.simulation.mutants`` works in a copy of the tree. A break that the simulation does
not see is a promise that nobody watches.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
# Schedules until a break must have been seen, and how many breaks may be missed.
SEEDS, MAY_MISS = 1_000, 1


class Mutant(NamedTuple):
    """One break: in ``file``, the text ``old`` becomes ``new``; and in other places too, where one
    alone would change nothing."""

    name: str
    file: str
    old: str
    new: str
    more: tuple[tuple[str, str, str], ...] = ()


MUTANTS = (
    # Pinning.
    Mutant(
        "ranges are not pinned to one version",
        "transfer/download.py",
        "etag=info.etag or None,",
        "etag=None,",
    ),
    Mutant(
        "copies are not pinned to one version",
        "transfer/copy.py",
        "tags))\n    asked = CopySource(info.url, info.etag or None, reading.options)",
        "tags))\n    asked = CopySource(info.url, None, reading.options)",
    ),
    # The source.
    Mutant(
        "a source that changed under an upload is not looked for",
        "transfer/upload.py",
        "        await context.door.run(source.check_unchanged)\n        receipts",
        "        receipts",
    ),
    # Checksums.
    Mutant(
        "the sum of a download is not compared",
        "transfer/verify.py",
        "        return await self._found() == self._info.checksum",
        "        return True",
    ),
    Mutant(
        "a range that was fetched again keeps its old sum",
        "transfer/verify.py",
        "            self._crcs[index] = crc\n",
        "            self._crcs[index] = self._crcs[index]\n",
    ),
    Mutant(
        "what a copy moves through this machine is not compared with the source",
        "transfer/through.py",
        "                return await verifier.verified()\n",
        "                return True\n",
    ),
    Mutant(
        "a part of a copy that is sent again keeps its old receipt",
        "transfer/through.py",
        "        receipts[part.number - 1] = receipt\n",
        "        pass\n",
    ),
    Mutant(
        "the checksum that Complete answers with is not compared",
        "transfer/multipart.py",
        "    if not _may_be_of(receipt, sums):",
        "    if False:",
    ),
    Mutant(
        "whatever object is there after a lost Complete is ours",
        "transfer/multipart.py",
        "    return same and info.size == sum(part.size for part in receipts)",
        "    return True",
    ),
    Mutant(
        "whatever object a look finds is ours",
        "transfer/look.py",
        "Answer.OURS if await is_ours(info) else Answer.ANOTHERS",
        "Answer.OURS",
    ),
    Mutant(
        "a refused sum is an error of the whole object at once",
        "retry.py",
        '    "BadDigest",\n',
        "",
    ),
    Mutant(
        "a stream that is read is not compared at its end",
        "transfer/reader.py",
        "        if got != self.info.checksum:",
        "        if False:",
    ),
    # Uploads in parts.
    Mutant(
        "an upload that failed is not aborted",
        "transfer/multipart.py",
        "                await abort_until_empty(url, upload_id, context)\n                done",
        "                done",
    ),
    Mutant(
        "an upload is aborted once, whatever lands later",
        "transfer/multipart.py",
        "        if not parts:\n            return\n",
        "        return\n",
    ),
    Mutant(
        "a stream that failed leaves its upload",
        "transfer/streams.py",
        "        if self._upload_id is not None:\n            await abort",
        "        if False:\n            await abort",
    ),
    Mutant(
        "a Create that was cancelled is forgotten",
        "transfer/begin.py",
        "        for _ in range(self._lost):",
        "        for _ in range(0):",
    ),
    Mutant(
        "a Complete that worked and is sent again is an error",
        "transfer/multipart.py",
        "if gone and (write.failures > 1 or",
        "if gone and (write.failures < 1 or",
    ),
    Mutant(
        "parts of a stream are completed in the order in which they came",
        "transfer/streams.py",
        "key=lambda receipt: receipt.number",
        "key=lambda receipt: receipt.etag",
    ),
    # Files.
    Mutant(
        "the name comes before the bytes are durable",
        "transfer/files.py",
        "    disk.fsync(partial.descriptor)\n",
        "",
    ),
    Mutant(
        "the bytes of a small file are not made durable",
        "transfer/writer.py",
        "        disk.fsync(write.descriptor)\n",
        "        pass\n",
    ),
    Mutant(
        "a temporary file stays after a failure",
        "transfer/files.py",
        "                disk.unlink(folder.name(partial.temporary.name), dir_fd=folder.at)\n",
        "                pass\n",
    ),
    Mutant(
        "a file is written where it will be, not beside it",
        "transfer/files.py",
        "        temporary = name or names.new(folder)\n",
        "        temporary = target.name\n        target.unlink(missing_ok=True)\n",
    ),
    Mutant(
        "a short write is taken for a whole one",
        "transfer/sinks.py",
        "        while done < len(view):",
        "        if done < len(view):",
    ),
    # Journals.
    Mutant(
        "an upload gets parts before a journal names it",
        "transfer/begin.py",
        "journal.upload_begun(begun)\n",
        "journal.upload_begun(self._record)\n",
    ),
    Mutant(
        "an upload of another source is gone on with",
        "transfer/resume_upload.py",
        '        return "the source is another one by now"',
        '        return ""',
    ),
    Mutant(
        "an upload without an id is left where it is",
        "transfer/nameless.py",
        "            if parts is not None and not parts:  # None: it is gone\n",
        "            if False:\n",
    ),
    Mutant(
        "a range that is on the disk is taken without a look at it",
        "transfer/resume_download.py",
        "        return found if found == crc else None",
        "        return crc",
    ),
    Mutant(
        "ranges of an object that is another one by now are kept",
        "transfer/resume_download.py",
        '        return "the object is another one by now"',
        '        return ""',
    ),
    Mutant(
        "what dead processes left in a folder stays there",
        "transfer/temporaries.py",
        "        if self.resumed:\n",
        "        if False:\n",
    ),
    Mutant(
        "what a process left that had no journal yet stays there",
        "batch/runner.py",
        "resumed=journal.follows)",
        "resumed=journal.resumed)",
    ),
    # What was found by the simulation, once more.
    Mutant(
        "an upload that a 500 may have begun is forgotten",
        "transfer/begin.py",
        "            if not may_have_worked(error):\n",
        "            if True:\n",
    ),
    Mutant(
        "the parts of a small object are guessed and not asked for",
        "transfer/verify.py",
        "        if many or self._sizes is not None:",
        "        if many:",
    ),
    Mutant(
        "a folder is tidied up only where a file is gone on with",
        "transfer/files.py",
        "        names.tidy(folder)\n        temporary",
        "        temporary",
        (
            (
                "transfer/temporaries.py",
                "        self.tidy(folder)\n        return",
                "        return",
            ),
        ),
    ),
    Mutant(
        "a disk that does not give back a kept range ends the run",
        "transfer/resume_download.py",
        "        except OSError:\n            return None  # what the disk",
        "        except MemoryError:\n            return None  # what the disk",
    ),
    # Leases.
    Mutant(
        "an expired session is an error of the request",
        "retry.py",
        "        if error.s3_code in EXPIRED_CODES or error.again",
        "        if error.again",
    ),
    Mutant(
        "an old generation that is called expired ends the new one",
        "credentials/broker.py",
        "live.reported or not live.is_generation(credentials):\n            return\n        live",
        "live.reported:\n            return\n        live",
    ),
    Mutant(
        "a revoked session is not renewed",
        "credentials/broker.py",
        "        return self._live is not live\n",
        "        return False\n",
    ),
    # Lists, slots, retries.
    Mutant(
        "a listing ends with its first page",
        "transfer/listing.py",
        "            yield page\n        if following is None:",
        "            yield page\n        if True:",
    ),
    Mutant(
        "a listing is asked for its first page again",
        "transfer/listing.py",
        "0, 2 * look_again\n        token = following\n",
        "0, 2 * look_again\n",
    ),
    Mutant(
        "a slot is not given back after an error",
        "transfer/limiter.py",
        "        self._release()\n        if self._throttle",
        "        if error is None:\n            self._release()\n        if self._throttle",
    ),
    Mutant(
        "what is retryable is not made again",
        "retry.py",
        "    if isinstance(error, EngineError) and error.retryable:\n        return Verdict.RETRY",
        "    if isinstance(error, EngineError) and error.retryable:\n        return Verdict.FAIL",
    ),
    Mutant(
        "requests are made again for ever",
        "retry.py",
        "        return self._left < 0 or not self._budget.take(cost)",
        "        return False",
    ),
)


def main() -> int:
    """Plant them all; say which were caught."""
    wanted = sys.argv[1:]
    chosen = [one for one in MUTANTS if not wanted or any(word in one.name for word in wanted)]
    missed = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        shutil.copytree(ROOT / "engine", tree / "engine", ignore=shutil.ignore_patterns("*.pyc"))
        (tree / "tests").mkdir()
        shutil.copy(ROOT / "tests" / "__init__.py", tree / "tests")
        shutil.copytree(ROOT / "tests" / "simulation", tree / "tests" / "simulation")
        for mutant in chosen:
            caught = _caught(mutant, tree)
            missed += [] if caught else [mutant.name]
            print(f"{'caught' if caught else 'MISSED'}  {mutant.name}: {caught}", flush=True)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} caught within {SEEDS} schedules each")
    return len(missed) > MAY_MISS


def _caught(mutant: Mutant, tree: Path) -> str:
    """What gave it away; empty if nothing did."""
    before: dict[Path, str] = {}
    for name, old, new in ((mutant.file, mutant.old, mutant.new), *mutant.more):
        file = tree / "engine" / name
        text = file.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise SystemExit(f"{name} has {old!r} {text.count(old)} times")
        before.setdefault(file, text)
        file.write_text(text.replace(old, new), encoding="utf-8")
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.simulation",
                "--first",
                "--from",
                "0",
                "--seeds",
                str(SEEDS),
            ],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )
    finally:
        for file, text in before.items():
            file.write_text(text, encoding="utf-8")
    told = [line for line in done.stdout.splitlines() if line.startswith("seed ")]
    if not told and done.returncode:
        raise SystemExit(f"{mutant.name} is no break but a crash:\n{done.stderr}")
    return told[0][:120] if told else ""


if __name__ == "__main__":
    sys.exit(main())
