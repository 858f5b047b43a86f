#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Tests of what scripts/bench, scripts/check and scripts/mutants conclude from made-up results."""
import importlib.machinery
import importlib.util
import os
import sys

sys.dont_write_bytecode = True
SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
tests = []


def load(name):
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(SCRIPTS, name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


bench = load("bench")
check = load("check")
mutants = load("mutants")


def test(function):
    tests.append(function)
    return function


def estimate(value):
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def figure(name, unit, value, verdict, over="b"):
    return {"name": name, "unit": unit, "variants": [],
            "ratios": [{"over": over, "under": "a", "ratio": estimate(value),
                        "spread": {"low": 0.5, "high": 2.5}, "goal": 1.1, "goal_is": "at least",
                        "verdict": verdict}]}


def rows(*figures):
    """Rows of the table, without stock, which has no result here."""
    found = [row.cells() for row in bench.goals({"figures": figures, "runs": []}, [])]
    stock = found[-len(bench.STOCK):]
    assert [row[0] for row in stock] == list(bench.STOCK)
    assert all(row[-1] == "not measured" for row in stock)
    return found[:-len(bench.STOCK)]


@test
def instructions_beside_the_clock():
    found = rows(figure("x", "us/page", 1.1, "undecided"), figure("y", "us/page", 1.3, "met"),
                 figure("x.instructions", "thousand instructions/page", 1.2, "met"))
    assert found == [
        ("x", "b / a", "at least 1.10", "1.10 (1.05 to 1.15)", "0.50 to 2.50", "undecided",
         "1.20 (1.15 to 1.25)", "met"),
        ("y", "b / a", "at least 1.10", "1.30 (1.25 to 1.35)", "0.50 to 2.50", "met", "", "")]


@test
def another_ratio_is_another_row():
    found = rows(figure("x", "us/page", 1.1, "undecided"),
                 figure("x.instructions", "thousand instructions/page", 1.2, "met", "c"))
    assert [row[1] for row in found] == ["b / a", "c / a"]
    assert found[0][6:] == ("", "") and found[1][3:6] == ("", "", "")
    assert found[1][6:] == ("1.20 (1.15 to 1.25)", "met")


@test
def what_failed_is_not_met():
    run = {"complete": False, "part": "main", "result": "map",
           "failed": {"figure": "map.4k", "variant": "peer", "why": "wrong"}}
    found = next(bench.goals({"figures": [], "runs": [run]}, [])).cells()
    assert found[0] == "map.4k" and "not met" in found


RAN = "# suite svm\n1..2\n"
HUNG = RAN + "ok 1 a.b\n# machine busy: status 124, see what it said above\n"
LATE = RAN + "ok 1 a.b\n# a.c: Test terminated by timeout\nnot ok 2 a.c\n"
STALLED = RAN + "vm: [   12.5] INFO: task x:12 blocked for more than 30 seconds.\n"


RCU = STALLED.replace("INFO: task x:12 blocked for more than 30 seconds.",
                      "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks")
KUNIT_LATE = ("# suite kunit\n1..1\n    1..2\n    ok 1 a\n    # b: try timed out\n"
              "    not ok 2 b\nnot ok 1 hmm_p2p_wait\n")


def of(text, hangs=False, status=1):
    m = mutants.Mutant("name", "what is wrong")
    m.hangs = hangs
    return mutants.caught_by(m, "svm", status, *mutants.failures_in(text, status))


@test
def a_failure_catches():
    assert of(KUNIT_LATE.replace("    ok 1 a", "    not ok 1 a")) == ("a", "")
    assert of(RAN + "not ok 1 a.b\nok 2 a.c\n") == ("a.b", "")
    assert of(RAN + "vm: [   1.2] BUG: KASAN: use-after-free\n") == ("BUG: KASAN: use-after-free", "")


@test
def no_failure_survives():
    assert of(RAN + "ok 1 a.b\nok 2 a.c\n", status=0)[0] is None


@test
def a_timeout_is_no_failure():
    for text in HUNG, LATE, STALLED, RCU, KUNIT_LATE:
        by, trouble = of(text)
        assert by is None and "took too long" in trouble, text


@test
def a_timeout_catches_what_hangs():
    assert of(HUNG, hangs=True) == (mutants.TIMEOUT, "")
    assert of(LATE, hangs=True) == ("a.c", "")
    assert of(STALLED, hangs=True)[0]


@test
def a_failure_before_a_timeout_catches():
    assert of(LATE.replace("ok 1 a.b", "not ok 1 a.b")) == ("a.b", "")
    assert of(LATE.replace("1..2", "1..3") + "not ok 3 a.d\n") == ("a.d", "")


@test
def what_did_not_run_proves_nothing():
    by, trouble = of("vm: no kernel\n", hangs=True)
    assert by is None and "did not run" in trouble
    by, trouble = of(RAN, hangs=True, status=2)
    assert by is None and "did not run" in trouble


def counted(text, first_failure):
    """Return the counts of check for a program that prints @text and then sleeps."""
    sleep = "exec sleep 100000" if first_failure else "true"
    part = check.Part("host", "it", ["sh", "-c", f'printf "$1"; {sleep}', "sh", text], ["it"],
                      first_failure)
    part.say = lambda text: None
    part.run()
    return part.count.passed, part.count.failed


@test
def a_first_failure_ends_it():
    assert counted("1..3\nok 1 a\nnot ok 2 b\n", True) == (1, 1)


@test
def a_timeout_is_no_first_failure():
    assert counted("1..3\n# b: Test terminated by timeout\nnot ok 1 b\nnot ok 2 c\n", True) == (0, 2)


@test
def all_failures_are_counted():
    assert counted("1..3\nnot ok 1 a\nnot ok 2 b\nok 3 c\n", False) == (1, 2)


def main():
    failed = 0
    for n, function in enumerate(tests, 1):
        try:
            function()
            print(f"ok {n} {function.__name__}")
        except AssertionError as e:
            failed += 1
            print(f"not ok {n} {function.__name__}")
            print(f"# line {e.__traceback__.tb_next.tb_lineno}: {e}")
    print(f"1..{len(tests)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
