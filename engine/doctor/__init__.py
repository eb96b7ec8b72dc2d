"""The doctor: which of the four cases of an assumed role it is, and what stands in the way.

Read ``examination.py`` first: it is the list of checks in the order of the screen. ``cases.py``
and ``policies.py`` decide and write documents without a call, ``checks.py`` asks STS, ``probe.py``
and ``read_probe.py`` ask S3, ``trust_lint.py`` reads a trust policy, ``informatica.py`` a
connection of that tool.
What must not live here: how a finding is printed (``cli/doctor_screen.py``).
"""

from engine.doctor.cases import Case, Situation, which_case
from engine.doctor.connection_file import MAX_FILE, read_text
from engine.doctor.examination import Probe, Question, examine
from engine.doctor.findings import CaseFound, Finding, PolicyToAdd, Status, Told, Verdict
from engine.doctor.informatica import Connection, read_connection
from engine.doctor.tools import Setup, open_tools
from engine.doctor.trust_lint import Complaint, Level, lint_trust_policy

__all__ = [
    "Case",
    "CaseFound",
    "Complaint",
    "Connection",
    "Finding",
    "Level",
    "MAX_FILE",
    "PolicyToAdd",
    "Probe",
    "Question",
    "Setup",
    "Situation",
    "Status",
    "Told",
    "Verdict",
    "examine",
    "lint_trust_policy",
    "open_tools",
    "read_connection",
    "read_text",
    "which_case",
]
