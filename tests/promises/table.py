"""The five sentences, the 22 promises, and the tests that hold them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

SENTENCES = (
    "Exit 0 means that the far end holds exactly the bytes of one version of the source.",
    "Anything else is another exit code and a named cause, and nothing wrong has the final name.",
    "It always ends, within a time that is stated.",
    "After any death the same command goes on, and leaves nothing behind.",
    "No secret and no byte goes to a host, a path or a file that the user did not name.",
)


@dataclass(frozen=True, slots=True)
class Promise:
    """One line.

    Attributes:
        says: What is promised.
        figure: What gates a release.
        tests: ``file::function`` below ``tests/``; all their parameters count.
        blind: What these tests cannot show.
        open: What is not kept yet; empty where all of it is.
    """

    says: str
    figure: str
    tests: tuple[str, ...]
    blind: str
    open: str = ""


def _in(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{file}.py::test_{name}" for name in names)


_FAULTS, _GATE = "integration/test_faults", "promises/test_gate"

PROMISES = {
    1: Promise(
        "Exit 0 is exact bytes of one version",
        "no silent damage in 10,000 random schedules of faults",
        _in("simulation/test_schedules", "no_promise_is_broken", "what_was_found_stays_mended")
        + _in(_FAULTS, "an_object_overwritten_between_two_ranges_is_an_error")
        + _in("integration/test_copies", "a_source_that_is_overwritten_meanwhile_is_never_mixed")
        + _in(
            "integration/test_copies_through",
            "a_flipped_bit_costs_one_part",
            "lasting_damage_is_named_and_nothing_is_made",
        ),
        "160 schedules here, 10,000 by `make prove`; a fault that the simulated store cannot have",
    ),
    2: Promise(
        "Nothing wrong has the final name, ever, and no temporary file is left",
        "0 wrong or partial files, 0 temporary files",
        _in(
            _FAULTS,
            "a_file_that_is_replaced_stays_until_the_new_one_is_whole",
            "a_lasting_flip_is_named_and_no_file_appears",
        )
        + _in("cli/test_signals", "a_download_that_is_stopped_leaves_the_folder_as_it_was")
        + _in("integration/test_deaths_at_calls", "a_small_download_dies_at_each_call")
        + _in(
            "integration/test_resumed_downloads",
            "a_death_just_behind_the_rename",
            "what_nobody_can_mend_is_removed",
            "a_resumed_run_sweeps_what_earlier_processes_left",
        ),
        "A power cut: that fsync is called is seen, that a disk obeys it is not",
    ),
    3: Promise(
        "A lie about a range is caught, and the range is fetched again",
        "5 of 5: status, Content-Range, Content-Length, total, ETag; healed by the truth",
        _in(_GATE, "a_lie_about_a_range_is_fetched_again", "a_lasting_lie_about_a_range_is_named")
        + _in("conformance/test_hardship", "an_answer_with_other_bytes_is_refused")
        + _in("rules/test_answers", "rule_14_exactly_the_range_that_was_asked_for"),
        "Other bytes of the right length under the right ETag: promise 4's checksums find those",
    ),
    4: Promise(
        "A flipped bit is caught and healed",
        "exit 0; 1 part more up, 1 range more down, 1 object more where it came in one request",
        _in(
            "integration/test_integrity",
            "a_bit_flipped_on_the_way_up_costs_one_part",
            "a_bit_flipped_in_a_single_put_is_sent_again",
            "a_bit_flipped_on_the_way_down_costs_one_range",
            "damage_in_two_ranges_is_healed",
        )
        + _in("cli/test_integrity", "a_flipped_bit_is_healed_in_both_directions"),
        "Objects that a store keeps no checksum of, and `--checksum none`",
    ),
    5: Promise(
        "After a kill the same command goes on, with verified parts only",
        "moved again <= 8 % of 1 GiB in 8 MiB parts",
        _in("cli/test_resume", "after_a_kill_the_same_command_goes_on")
        + _in(
            "integration/test_resumed_uploads",
            "a_part_that_is_not_the_sources_is_sent_again",
            "a_death_just_behind_complete",
        )
        + _in("integration/test_resumed_downloads", "what_is_on_the_disk_is_read_again")
        + _in("crash/test_journal_writes", "a_death_at_a_write")
        + _in("prove/test_kills", "the_same_command_goes_on_after_a_death"),
        "A machine that loses power; the figure is counted by the long tests only",
    ),
    6: Promise(
        "No orphan upload",
        "0 after a 403 and a revoked session; after a signal 0 that no journal names",
        _in(
            _FAULTS,
            "no_part_is_left_after_a_failure",
            "no_part_is_left_after_a_cancellation",
            "no_part_is_left_after_the_session_was_revoked",
        )
        + _in(_GATE, "revoked_in_the_middle_and_then_refused_leaves_no_upload")
        + _in("cli/test_signals", "an_upload_that_is_stopped_leaves_no_open_upload")
        + _in("cli/test_runs", "runs_are_listed_and_cleaned")
        + _in(
            "integration/test_resumed_uploads",
            "an_upload_whose_id_was_lost_is_found_and_aborted",
        ),
        "A role that may begin uploads but not abort them: the upload is named, not removed",
    ),
    7: Promise(
        "A lost answer of Complete is no failure",
        "exit 0; another object there is an error",
        _in(
            "integration/test_lost_answers",
            "a_complete_whose_every_answer_is_lost_is_looked_for",
            "an_upload_that_somebody_else_aborted_is_no_success",
            "another_object_than_was_sent_is_named",
        )
        + _in(
            "acceptance/test_broker_acceptance",
            "g10_a_complete_whose_answer_was_lost_is_verified_as_done",
        ),
        "A role that may not read: it is told that the object was most likely written",
    ),
    8: Promise(
        "An ended or revoked session costs one renewal for all workers",
        "exit 0; <= 1 more call to STS a revocation; parts that were sent are kept",
        _in(_GATE, "a_session_that_ends_costs_one_call_and_no_part")
        + _in(
            "acceptance/test_revocation",
            "a_revoked_session_costs_16_workers_one_renewal_and_no_object",
        )
        + _in(
            "integration/test_edges",
            "many_workers_with_one_expired_session_make_one_sts_call",
            "a_bare_400_on_head_is_looked_behind",
        ),
        "Workers of other processes, unless they share a broker",
    ),
    9: Promise(
        "Sessions shorter than the work, and STS down while they live",
        "calls <= T / (lease - window) + 1; an outage is not seen before the true end; no storm",
        _in(_GATE, "a_job_of_16_seconds_under_sessions_of_8")
        + _in(
            "acceptance/test_broker_acceptance",
            "g01_ten_thousand_workers_eight_hours_43_leases_no_wait",
            "g02_sts_down_for_20_minutes_is_not_seen_and_no_stampede_follows",
        ),
        "Hours are virtual; only the 16 seconds are real",
    ),
    10: Promise(
        "A wrong clock is corrected by the server's Date",
        "exit 0, 1 request more, a warning",
        _in(
            _GATE,
            "a_wrong_clock_costs_one_request",
            "a_wrong_clock_is_told_where_sts_meets_it_first",
        )
        + _in("promises/test_ends", "a_wrong_clock_is_told_once")
        + _in(
            "acceptance/test_broker_acceptance",
            "g08_signatures_are_timed_by_the_clock_that_servers_correct",
        )
        + _in("rules/test_requests", "rule_04_a_learned_clock_holds_from_the_next_request"),
        "Requests that are under way at the first refusal are refused too",
    ),
    11: Promise(
        "It always ends: connecting 5 s, first byte 15 s, 10 s without progress, a floor of speed; "
        "10 minutes in all for what S3 works at",
        "a silent request or 1 byte a second costs <= 20 s, exit 0",
        _in(_GATE, "a_silent_request_costs_20_seconds_at_most")
        + _in(
            "rules/test_pool",
            "rule_21_connecting_has_an_end",
            "rule_21_the_first_byte_has_a_limit",
            "rule_21_a_body_must_move",
            "rule_21_a_body_that_drips_is_given_up",
        )
        + _in("unit/planes/test_wire_downloads", "a_body_that_drips_into_a_file_is_given_up")
        + _in("conformance/test_hardship", "a_server_that_falls_silent_is_given_up")
        + _in(
            "unit/transfer/test_slow_parts",
            "one_that_is_slower_than_its_siblings_is_given_up",
            "few_are_given_up",
        )
        + _in(
            "integration/test_long_work",
            "complete_takes_ten_minutes_in_all_and_is_looked_for",
            "a_copy_takes_ten_minutes_in_all_and_is_looked_for",
        ),
        "How a server that is slow on purpose spreads it over parts",
    ),
    12: Promise(
        "Asked for fewer requests, it makes fewer: jitter, one budget, Retry-After obeyed",
        "20 % 503: <= 1.3 x the requests; Retry-After 4: none sooner; for ever: <= 60 s",
        _in(
            _GATE,
            "a_fifth_of_503_costs_less_than_a_third_more",
            "retry_after_is_waited_for",
            "for_ever_503_ends_within_a_minute",
        )
        + _in(_FAULTS, "slow_down_is_obeyed_and_told", "for_ever_slow_down_ends_and_says_so")
        + _in(
            "unit/transfer/test_throttle",
            "retry_after_holds_for_the_whole_prefix_and_no_other",
            "what_refuses_for_ever_is_given_up_and_named",
        )
        + _in("unit/test_retry", "the_shared_budget_ends_a_storm"),
        "How S3 itself divides its load",
    ),
    13: Promise(
        "No key, token or byte goes to another host, and none of its bytes is taken",
        "0 requests at the other host",
        _in(_FAULTS, "a_redirect_is_never_followed", "a_redirect_of_sts_is_never_followed")
        + _in("conformance/test_other_host", "no_verb_of_s3_follows_a_redirect", "the_trap_works")
        + _in("integration/test_regions", "no_other_host_is_ever_asked"),
        "A resolver that lies about a name that the user gave; TLS finds that",
    ),
    14: Promise(
        "Sources of credentials follow no redirect, and are asked at allowed hosts only",
        "0 requests at the other host, an error",
        _in("conformance/test_other_host", "no_source_of_credentials_follows_a_redirect")
        + _in("integration/test_cases", "a_redirect_of_imds_is_never_followed"),
        "A program named by credential_process does as it likes",
    ),
    15: Promise(
        "A certificate that nobody vouches for is final",
        "an error within 5 s, after one connection, with the default retries",
        _in("promises/test_ends", "a_certificate_of_nobody_is_final")
        + _in("conformance/test_ways", "a_certificate_of_nobody_is_refused"),
        "Revoked certificates: no list of them is asked",
    ),
    16: Promise(
        "A key cannot leave the target folder, and no link leads outside",
        "0 files outside; the object is named, the others go on, exit not 0",
        _in("integration/test_trees", "a_key_cannot_leave_the_target_folder")
        + _in("integration/test_resumed_downloads", "a_name_that_leads_elsewhere_is_not_touched")
        + _in(
            "integration/test_names",
            "hostile_keys_are_refused_one_by_one",
            "what_is_no_file_of_the_tree_is_not_sent",
        )
        + _in("integration/test_never_outside", "no_race_with_a_link_leads_outside")
        + _in("integration/test_never_read_outside", "no_link_that_is_swapped_in_is_followed")
        + _in("unit/transfer/test_folders", "a_link_in_the_way_is_refused"),
        "Folders that another process mounts elsewhere meanwhile",
    ),
    17: Promise(
        "A listing that is none is an error",
        "never `0 objects`, exit 0; an error within 5 s",
        _in(_GATE, "a_listing_that_is_none_is_an_error")
        + _in("rules/test_lies", "every_lie_is_healed_or_named"),
        "A listing that leaves out objects and says of itself that it is whole",
    ),
    18: Promise(
        "No secret in output, logs, tracebacks, reprs, dumps and state files",
        "0 hits for every secret that was issued, with debug logs too",
        _in(
            "cli/test_secrets",
            "transfers_and_listings_show_no_secret",
            "failures_show_no_secret",
            "loads_show_no_secret",
        )
        + _in(
            "house/test_secrets_logs",
            "a_debug_log_of_everything_holds_no_secret",
            "what_botocore_logs_of_the_second_plane_is_masked",
        )
        + _in(
            "house/test_secrets_property",
            "no_public_type_shows_a_secret",
            "a_dump_of_a_crash_shows_places_only",
        )
        + _in("unit/batch/journal/test_runs", "no_secret_comes_into_a_state_file"),
        "A core file of the kernel",
    ),
    19: Promise(
        "Ctrl-C and SIGTERM end it soon, and say how to go on",
        "out within 5 s, journaled, no partial file under the name, exit 130 or 143",
        _in("promises/test_ends", "a_signal_ends_it_and_says_how_to_go_on")
        + _in(
            "cli/test_resume",
            "a_stopped_upload_goes_on_by_the_command_that_is_printed",
            "a_stopped_download_goes_on_when_it_is_typed_again",
            "a_second_signal_waits_for_nothing",
        )
        + _in(
            "cli/test_signals",
            "an_upload_that_is_stopped_leaves_no_open_upload",
            "a_download_that_is_stopped_leaves_the_folder_as_it_was",
        ),
        "A process in an uninterruptible sleep of the kernel",
    ),
    20: Promise(
        "A full disk and a source that changes are named",
        "an error within 5 s; time, size and inode looked at before Complete, else abort",
        _in(
            "integration/test_full_disk",
            "a_run_stops_where_nothing_can_be_written",
            "a_large_object_without_room",
        )
        + _in(
            "integration/test_sources_change",
            "parts_of_a_changed_file_are_not_put_together",
            "one_put_of_a_changed_file_is_not_finished",
        )
        + _in("cli/test_integrity", "a_file_that_changes_is_named_and_not_stored"),
        "A writer who sets the old time again and leaves size and inode",
    ),
    21: Promise(
        "An answer that lacks its ETag or checksum is asked for again, then named",
        "an error within 30 s",
        _in(_GATE, "an_answer_without_its_etag_is_healed_or_named")
        + _in("rules/test_lies", "every_lie_is_healed_or_named"),
        "A store that never says a checksum is no liar: `verified` is false then",
    ),
    22: Promise(
        "A message that a person can act on; no traceback",
        "operation, object, code, request id, attempts, advice: none missing",
        _in(
            "cli/test_errors",
            "an_error_says_what_where_by_which_request_and_what_to_do",
            "a_mistake_of_ours_is_no_traceback",
            "denied_everything_is_3_and_partly_denied_is_1",
        )
        + _in("rules/test_lies", "what_is_wrong_with_an_answer_names_its_request_id"),
        "Whether the advice is understood",
    ),
}


def missing() -> Iterator[str]:
    """Tests that a promise names and nobody wrote."""
    written: dict[str, set[str]] = {}
    for promise in PROMISES.values():
        for node in promise.tests:
            file, _, name = node.partition("::")
            if file not in written:
                path = ROOT / "tests" / file
                body = ast.parse(path.read_text()).body if path.exists() else []
                written[file] = {
                    item.name
                    for item in body
                    if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
                }
            if name not in written[file]:
                yield node


def document() -> str:
    """``docs/promises.md``."""
    lines = [
        "# What is promised, and how it is shown",
        "",
        *(f"{letter}. {text}" for letter, text in zip("abcde", SENTENCES, strict=True)),
        "",
        "The simulation (`python -m tests.simulation`) looks at these five sentences after each of",
        "its random schedules. The 22 promises below are what follows from them. `make promises`",
        "runs the tests that hold them, the long ones only with `--long`, and prints what came of",
        "each; this document is written by `python -m tests.promises --document`, and a test",
        "compares the two.",
        "",
        "| | Promise | Figure | Tests, below `tests/` | What they cannot show |",
        "|---|---|---|---|---|",
    ]
    for number, promise in PROMISES.items():
        tests = "<br>".join(f"`{node}`" for node in promise.tests)
        cells = (str(number), promise.says, promise.figure, tests, promise.blind)
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Not kept yet", ""]
    lines += [
        f"- {number}: {promise.open}." for number, promise in PROMISES.items() if promise.open
    ]
    if not any(promise.open for promise in PROMISES.values()):
        lines.append("Nothing that is known.")
    return "\n".join(lines) + "\n"
