"""Claims about agreement statistics: what they cover, how they behave when methods are exchanged, what is refused."""

from __future__ import annotations

import json
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import casa

from casa.errors import CasaError, InputError
from casa.qc.agreement import bland_altman, passing_bablok
from casa.qc.page import study
from casa.qc.pairs import read_pairs


def plain_passing_bablok(x: list[float], y: list[float]) -> tuple[float, float, float, float]:
    """The paper's recipe in loops: slope, intercept, and the slope's limits; of an even number the lower middle one."""
    slopes, n = [], len(x)
    for i, j in combinations(range(n), 2):
        dx, dy = x[j] - x[i], y[j] - y[i]
        if (dx == 0 and dy == 0) or (dx != 0 and dy / dx == -1):
            continue
        slopes.append(dy / dx if dx else math.copysign(math.inf, dy))
    slopes.sort()
    count, shift = len(slopes), sum(s < -1 for s in slopes)
    c = 1.959964 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    m1 = round((count - c) / 2)
    middle = slopes[(count + 1) // 2 + shift - 1]
    intercept = float(np.median([b - middle * a for a, b in zip(x, y, strict=True)]))
    return middle, intercept, slopes[m1 + shift - 1], slopes[count - m1 + shift]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(15, 40))
def test_the_shifted_median_is_that_of_the_paper_ties_included(seed, n):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 60, n).astype(float)  # whole numbers: equal ones in either method, slopes of -1, verticals
    x, y = truth + rng.integers(-3, 4, n), truth + rng.integers(-3, 4, n)
    found = passing_bablok(x, y)
    slope, intercept, low, high = plain_passing_bablok(x.tolist(), y.tolist())
    assert found.slope_interval == (pytest.approx(low), pytest.approx(high))
    if found.slopes % 2:
        assert (found.slope, found.intercept) == (pytest.approx(slope), pytest.approx(intercept))
    else:
        assert found.slope >= slope - 1e-12


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_exchanged_methods_give_the_inverse_line(seed):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 100, 30)
    x, y = np.round(truth + rng.normal(0, 4, 30), 1), np.round(1.1 * truth + rng.normal(0, 4, 30), 1)
    one, other = passing_bablok(x, y), passing_bablok(y, x)
    assert other.slope == pytest.approx(1 / one.slope, rel=1e-9)
    assert other.slope_interval[0] == pytest.approx(1 / one.slope_interval[1], rel=1e-9)
    assert bland_altman(x, y).limits.lower == pytest.approx(-bland_altman(y, x).limits.upper, rel=1e-9)


def test_intervals_hold_the_truth_in_19_of_20_studies():
    rng = np.random.default_rng(5)
    inside = {"slope": 0, "intercept": 0, "bias": 0, "upper": 0, "lower": 0, "linear": 0}
    studies = 400
    for _ in range(studies):
        truth = rng.uniform(5, 95, 40)
        x, y = truth + rng.normal(0, 4, 40), truth + rng.normal(0, 4, 40)
        line, ba = passing_bablok(x, y), bland_altman(x, y)
        end = 1.959964 * 4 * math.sqrt(2)
        for name, interval, value in (
            ("slope", line.slope_interval, 1.0),
            ("intercept", line.intercept_interval, 0.0),
            ("bias", ba.limits.bias_interval, 0.0),
            ("upper", ba.limits.upper_interval, end),
            ("lower", ba.limits.lower_interval, -end),
        ):
            inside[name] += interval[0] <= value <= interval[1]
        inside["linear"] += line.linear
    share = {name: count / studies for name, count in inside.items()}
    for name in ("slope", "intercept", "bias", "upper", "lower"):
        assert (0.88 if name == "intercept" else 0.92) <= share[name] <= 0.98, share
    assert share["linear"] >= 0.92, share


def test_what_is_wrong_with_a_method_is_found():
    rng = np.random.default_rng(2)
    truth = rng.uniform(5, 80, 60)
    x = truth + rng.normal(0, 2, 60)
    proportional = passing_bablok(x, 1.15 * truth + rng.normal(0, 2, 60))
    assert proportional.slope_interval[0] > 1.05
    constant = passing_bablok(x, truth + 8 + rng.normal(0, 2, 60))
    assert constant.intercept_interval[0] > 4
    assert constant.slope_interval[0] < 1 < constant.slope_interval[1]
    bent = passing_bablok(x, truth**2 / 80 + rng.normal(0, 2, 60))
    assert not bent.linear
    ba = bland_altman(x, 1.15 * truth + rng.normal(0, 2, 60))
    assert ba.slope_p < 1e-4
    assert ba.slope_interval[0] > 0.05
    scaled = bland_altman(truth, 1.2 * truth * np.exp(rng.normal(0, 0.1, 60)))
    assert scaled.ratio is not None
    assert scaled.ratio.bias_interval[0] < 1.2 < scaled.ratio.bias_interval[1]


def test_outliers_hardly_move_the_line():
    truth = np.linspace(5, 95, 60)
    y = truth.copy()
    y[[5, 20]] += 60
    assert passing_bablok(truth, y).slope == pytest.approx(1.0, abs=1e-9)


def test_what_cannot_be_compared_is_refused():
    rng = np.random.default_rng(0)
    ramp = np.arange(20.0)
    with pytest.raises(InputError, match=r"^9 pairs: at least 10"):
        bland_altman(ramp[:9], ramp[:9])
    with pytest.raises(InputError, match=r"not a finite"):
        bland_altman(ramp, np.where(ramp == 3, np.nan, ramp))
    with pytest.raises(InputError, match=r"nothing to compare over"):
        passing_bablok(ramp, np.full(20, 4.0))
    with pytest.raises(InputError, match=r"20 and 19"):
        passing_bablok(ramp, ramp[:19])
    for other in (-ramp, rng.uniform(0, 1, 20)):
        with pytest.raises(CasaError, match=r"do not rise together \(Kendall's tau"):
            passing_bablok(ramp, other)


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_file_of_pairs_is_read_by_figure(tmp_path):
    path = write(
        tmp_path / "p.csv", "sample,figure,technician,casa", "1,pr_percent,40,42", "2,pr_percent,30,28.5",
        "1,concentration_m_per_ml,50,55",
    )  # fmt: skip
    percent, concentration = read_pairs(path)
    assert (percent.figure, percent.unit, percent.second.tolist()) == ("pr_percent", "%", [42, 28.5])
    assert (concentration.unit, concentration.samples) == ("M/mL", ("1",))
    european = read_pairs(write(tmp_path / "e.csv", "sample;technician;casa", "1;40,5;42", "2;30;28,25"))
    assert european[0].second.tolist() == [42, 28.25]
    plain = read_pairs(write(tmp_path / "vcl.csv", "mine,theirs", "1,2"), "mine", "theirs")
    assert (plain[0].figure, plain[0].first.tolist()) == ("vcl", [1.0])


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["sample,technician", "1,4"], r"has no column 'casa' \(it has sample, technician\); name the columns"),
        (["technician,casa", "4,"], r"line 2: casa: expected a number, got ''"),
        (["technician,casa", "4,5", "nan,5"], r"line 3: technician: expected a number, got 'nan'"),
        (["technician,casa", "4"], r"line 2: casa: expected a number, got None"),
        (["figure,technician,casa", "pr_percent,4,104"], r"line 2: casa: expected a percentage from 0 to 100"),
        (["sample,technician,casa", "a,4,5", "a,4,6"], r"line 3: sample 'a' is there already"),
        (["technician,casa"], r"has a header and no line"),
        ([""], r"has no column 'technician' \(it has nothing\)"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, lines, told):
    with pytest.raises(InputError, match=told):
        read_pairs(write(tmp_path / "p.csv", *lines))


def test_a_file_that_is_no_text_or_not_there_is_one_line(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00a")
    for name in ("x.csv", "none.csv"):
        with pytest.raises(InputError, match=r"cannot be read as CSV"):
            read_pairs(tmp_path / name)


def test_the_command_writes_a_page_and_says_what_it_means(tmp_path):
    rng = np.random.default_rng(1)
    truth = rng.uniform(10, 80, 30)
    rows = [f"{i},pr_percent,{a:.1f},{b:.1f}" for i, (a, b) in enumerate(zip(truth, truth + 5, strict=True))]
    rows += [f"{i},concentration_m_per_ml,{a:.1f},{81 - a:.1f}" for i, a in enumerate(truth)]
    path = write(tmp_path / "pairs.csv", "sample,figure,technician,casa", *rows)
    done = casa("qc", "agreement", path, "--page", "page.html", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["pr_percent"]["bland_altman"]["limits"]["bias"] == pytest.approx(5, abs=0.1)
    assert found["pr_percent"]["passing_bablok"]["slope"] == pytest.approx(1, abs=0.01)
    assert found["concentration_m_per_ml"]["passing_bablok"] is None
    assert "do not rise together" in found["concentration_m_per_ml"]["reason"]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert "more than technician on average" in page
    few = write(tmp_path / "few.csv", "technician,casa", "1,2", "2,3")
    done = casa("qc", "agreement", few, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "casa: few: 2 pairs: at least 10 are needed (40 or more are better)\n")


def test_words_tell_few_samples_and_a_bent_line(tmp_path):
    from casa.qc.page import agreement_words
    from casa.qc.pairs import Pairs

    truth = np.linspace(5, 80, 30)
    words = agreement_words(study(Pairs("pr_percent", "technician", "casa", (), truth, truth**2 / 80)))
    assert any("Only 30 samples" in line for line in words)
    assert any("bend away" in line for line in words)
