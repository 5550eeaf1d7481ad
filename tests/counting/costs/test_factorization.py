"""Factorizations and solvers cost the leading terms of published operation counts."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
import torch
from counted import cost_of, random, real_flops
from features import has, requires
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import both

SIZE, BATCH = st.integers(0, 6), st.integers(0, 3)


def work(function, *matrices):
    return both(function, matrices).other_flops


def symmetric(batch, n, dtype=torch.float64):
    matrix = random(batch, n, n).to(dtype)
    return matrix @ matrix.mH + 5 * torch.eye(n, dtype=dtype)


@settings(max_examples=15)
@given(batch=BATCH, n=SIZE, sides=st.integers(1, 3), factor=st.sampled_from([1, 4]))
def test_square(batch, n, sides, factor):
    # LAPACK Working Note 41, appendix C; Golub and Van Loan, §7.5 and §8.3. Complex numbers cost 4 times as much.
    dtype = torch.float64 if factor == 1 else torch.complex128
    matrix, right = symmetric(batch, n, dtype), random(batch, n, sides).to(dtype)
    count = batch * factor
    lu, two_triangles = floor(Fraction(2 * n**3, 3)), 2 * n**2 * sides
    assert work(torch.linalg.lu_factor, matrix) == count * lu
    assert work(torch.linalg.det, matrix) == count * lu
    assert work(torch.linalg.solve, matrix, right) == count * (lu + two_triangles)
    assert work(torch.linalg.inv, matrix) == count * 2 * n**3
    assert work(torch.linalg.cholesky, matrix) == count * floor(Fraction(n**3, 3))
    assert work(lambda a: torch.linalg.ldl_factor(a, hermitian=True), matrix) == count * floor(Fraction(n**3, 3))
    assert work(torch.cholesky_solve, right, matrix) == count * two_triangles
    assert work(lambda a, b: torch.linalg.solve_triangular(a, b, upper=True), matrix, right) == count * n**2 * sides
    assert work(torch.cholesky_inverse, matrix) == count * floor(Fraction(2 * n**3, 3))
    assert work(torch.linalg.eigh, matrix) == count * 9 * n**3
    assert work(lambda a: torch.ops.aten._linalg_eigh(a, compute_v=False), matrix) == count * floor(
        Fraction(4 * n**3, 3)
    )
    assert work(torch.linalg.matrix_exp, matrix) == count * 10 * n**3
    assert work(torch.linalg.eig, matrix) == count * 25 * n**3
    assert work(torch.ops.aten._linalg_eigvals, matrix) == count * 10 * n**3


@settings(max_examples=15)
@given(batch=BATCH, rows=SIZE, columns=SIZE)
def test_rectangular(batch, rows, columns):
    """Factorizing a wide matrix costs as much as factorizing its transpose."""
    # Golub and Van Loan, §3.2, §5.2, §8.6
    matrix = random(batch, rows, columns)
    m, n = max(rows, columns), min(rows, columns)
    qr = floor(2 * n**2 * (m - Fraction(n, 3)))
    values = floor(4 * m * n**2 - Fraction(4 * n**3, 3))
    assert work(torch.linalg.lu_factor, matrix) == batch * floor(m * n**2 - Fraction(n**3, 3))
    assert work(torch.geqrf, matrix) == batch * qr
    assert work(lambda a: torch.linalg.qr(a, mode="r"), matrix) == batch * qr
    # An explicit Q with rows·n elements costs as much as a QR factorization of a matrix of this size.
    assert work(torch.linalg.qr, matrix) == batch * (qr + floor(2 * n**2 * (rows - Fraction(n, 3))))
    square = floor(4 * rows**2 * n - 4 * rows * n**2 + Fraction(4 * n**3, 3))
    assert work(lambda a: torch.linalg.qr(a, mode="complete"), matrix) == batch * (qr + square)
    assert work(torch.linalg.svd, matrix) == batch * (4 * m**2 * n + 8 * m * n**2 + 9 * n**3)
    assert work(lambda a: torch.linalg.svd(a, full_matrices=False), matrix) == batch * (14 * m * n**2 + 8 * n**3)
    assert work(lambda a: torch.ops.aten._linalg_svd(a, compute_uv=False), matrix) == batch * values
    tolerance = torch.tensor(1e-9, dtype=torch.float64)
    pseudoinverse = batch * (14 * m * n**2 + 8 * n**3 + 2 * m * n**2)
    assert work(lambda a: torch.ops.aten.linalg_pinv.atol_rtol_tensor(a, atol=tolerance), matrix) == pseudoinverse


@settings(max_examples=10)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6), data=st.data())
def test_reflectors(rows, columns, data):
    """Applying a Householder reflector costs 4 FLOPs for each element that it changes."""
    # LAPACK Working Note 41, ORGQR and ORMQR
    k = data.draw(st.integers(1, min(rows, columns)))
    left = data.draw(st.booleans())
    matrix = random(rows, columns)
    length, others = (rows, columns) if left else (columns, rows)
    reflectors, factors = random(length, k), random(k)
    # Reflector i leaves the first i entries unchanged. These are the leading terms of the sum of 4·(length - i)·others.
    leading = 4 * length * others * k - 2 * others * k**2
    assert work(lambda a, t, c: torch.ormqr(a, t, c, left=left), reflectors, factors, matrix) == leading
    exact = sum(4 * (length - i) * others for i in range(k))
    assert leading == exact - 2 * others * k
    if rows >= columns:
        q = floor(Fraction(4 * k**3, 3) + 4 * rows * columns * k - 2 * (rows + columns) * k**2)
        assert work(torch.linalg.householder_product, matrix, factors) == q


@settings(max_examples=10)
@given(batch=st.integers(1, 2), m=st.integers(1, 5), n=st.integers(1, 5), sides=st.integers(1, 2))
def test_least_squares(batch, m, n, sides):
    """A least-squares solution costs a factorization (QR or SVD) and its application to each right-hand side."""
    # Golub and Van Loan, §5.3 and §5.5
    matrix, right = random(batch, m, n), random(batch, m, sides)
    long, short = max(m, n), min(m, n)
    by_qr = floor(2 * short**2 * (long - Fraction(short, 3))) + (4 * long * short - short**2) * sides
    by_svd = 4 * long * short**2 + 8 * short**3 + 2 * (long + short) * short * sides
    for driver, expected in (("gelsy", by_qr), ("gelsd", by_svd)):
        operator = torch.ops.aten.linalg_lstsq
        assert real_flops(lambda a, b, d=driver, f=operator: f(a, b, driver=d), matrix, right) == batch * expected


def test_lu_in_a_loop():
    """The formula for LU differs from the operations of a loop by at most 1%."""
    # A quotient for each entry below a pivot, and 2 FLOPs for each entry below and to the right of the pivot.
    m, n = 300, 200
    operations = sum((m - 1 - k) + 2 * (m - 1 - k) * (n - 1 - k) for k in range(n))
    counted = work(torch.linalg.lu_factor, torch.empty(m, n, dtype=torch.float64).normal_())
    assert counted == pytest.approx(operations, rel=0.01)


def test_cholesky_in_a_loop():
    """The formula for Cholesky differs from the operations of a loop by at most 1%."""
    # A root for each pivot, a quotient for each entry below it, and 2 FLOPs for each remaining entry.
    n = 300
    operations = sum(1 + (n - 1 - k) + (n - 1 - k) * (n - k) for k in range(n))
    assert work(torch.linalg.cholesky, symmetric(1, n)) == pytest.approx(operations, rel=0.01)


def test_triangle_in_a_loop():
    # Row i, counted from 0, has i products, i sums and a quotient.
    n, sides = 20, 3
    operations = sides * sum(2 * i + 1 for i in range(n))
    triangle = random(n, n).tril() + 5 * torch.eye(n, dtype=torch.float64)
    assert work(lambda a, b: torch.linalg.solve_triangular(a, b, upper=False), triangle, random(n, sides)) == operations


def test_vectors_and_sides():
    # The factorization costs 2 · n³/3 = 18. Each right-hand side costs 2 · n² = 18.
    matrix = symmetric(1, 3)[0]
    assert work(torch.linalg.solve, matrix, random(3)) == 18 + 18
    assert work(lambda a, b: torch.linalg.solve(a, b, left=False), matrix, random(2, 3)) == 18 + 36


def test_values_alone():
    """`eigvalsh`, `eigvals` and `svdvals` cost as much as `eigh`, `eig` and `svd` with `full_matrices=False`."""
    # PyTorch also computes the vectors if a gradient may be needed or a dispatch mode is active, as in a measurement.
    matrix = symmetric(1, 3)
    assert work(torch.linalg.eigvalsh, matrix) == 9 * 27
    assert work(torch.linalg.eigvals, matrix) == 25 * 27
    assert work(torch.linalg.svdvals, matrix) == 22 * 27


@pytest.mark.filterwarnings("ignore:torch.(cholesky|triangular_solve) is deprecated")  # deprecated, but it still exists
@settings(max_examples=8)
@given(batch=st.integers(1, 2), n=st.integers(1, 5), sides=st.integers(1, 3))
def test_parts(batch, n, sides):
    """If a matrix is already factorized, solving costs only two triangular solves."""
    matrix, right = symmetric(batch, n), random(batch, n, sides)
    lu = batch * floor(Fraction(2 * n**3, 3))
    assert work(torch.linalg.lu, matrix) == lu
    assert work(torch.linalg.slogdet, matrix) == lu
    if has("torch.cholesky"):
        assert work(torch.cholesky, matrix) == batch * floor(Fraction(n**3, 3))
    two_triangles = batch * 2 * n**2 * sides
    assert work(torch.linalg.lu_solve, *torch.linalg.lu_factor(matrix), right) == two_triangles
    assert work(torch.linalg.ldl_solve, *torch.linalg.ldl_factor(matrix), right) == two_triangles
    assert cost_of(torch.ops.aten._cholesky_solve_helper, (right, matrix, False), right) == two_triangles
    assert work(torch.triangular_solve, right, matrix) == two_triangles // 2


# deprecated, but it still exists
@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:torch.triangular_solve is deprecated")
def test_sparse_solvers():
    """A sparse solver costs 2 FLOPs for each stored element and right-hand side."""
    triangle = torch.tensor([[2.0, 0, 0], [1, 2, 0], [0, 1, 2]], dtype=torch.float64).to_sparse_csr()
    right = random(3, 2)
    assert real_flops(lambda a, b: torch.triangular_solve(b, a, upper=False), triangle, right) == 2 * 5 * 2
    assert cost_of(torch.ops.aten._spsolve, (triangle, right), right) == 2 * 5 * 2
    assert cost_of(torch.ops.aten._spsolve, (triangle, right[:, 0]), right[:, 0]) == 2 * 5


@requires("torch.linalg.polar")
@pytest.mark.parametrize(("m", "n"), [(5, 3), (4, 4), (7, 1)])
def test_polar(m, n):
    # The thin SVD costs 14·m·n² + 8·n³, U·Vᵀ costs 2·m·n², and V·diag(s)·Vᵀ costs 2·n³.
    assert work(torch.linalg.polar, torch.randn(2, m, n)) == 2 * (14 * m * n**2 + 8 * n**3 + 2 * m * n**2 + 2 * n**3)


@requires("torch.linalg.polar")
@pytest.mark.parametrize("n", [1, 3, 4])
def test_symmetric_square_root(n):
    # The eigenvectors cost 9·n³, and V·diag(√λ)·Vᵀ costs 2·n³.
    assert work(torch.linalg.matrix_sqrth, torch.eye(n).expand(2, n, n).contiguous()) == 2 * 11 * n**3
